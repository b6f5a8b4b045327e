// The scenarios of ../../../vectors/scenarios.sql in Go. A worker, for ROMANCY_TEST_CONNINFO.
package main

import (
	"context"
	"errors"
	"log"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"romancy"
)

const moment = 20 * time.Millisecond

func main() {
	ctx := context.Background()
	app, err := romancy.New(ctx, os.Getenv("ROMANCY_TEST_CONNINFO"), romancy.Options{Queue: "scenarios"})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()

	romancy.NewWorkflow(app, "kid", func(w *romancy.W, i int) (int, error) {
		if i == 99 {
			if _, err := romancy.Receive[any](w, "never", 0); err != nil {
				return 0, err
			}
		}
		return romancy.Call[int](w, "sq", i)
	})

	romancy.NewWorkflow(app, "steps", func(w *romancy.W, i int) (int, error) {
		r, err := romancy.Call[int](w, "sq", i)
		if err != nil {
			return 0, err
		}
		w.SetValue("stage", "squared")
		w.SetLabels(map[string]any{"kind": "steps"})
		w.Now()
		w.Random()
		w.UUID()
		if w.Patched("v2") {
			w.Publish("news", r)
		}
		w.Sleep(moment)
		return romancy.Call[int](w, "sq", r, romancy.ActivityID("named"))
	})

	romancy.NewWorkflow(app, "parallel", func(w *romancy.W, _ any) ([]any, error) {
		r, err := romancy.All(w, []romancy.Handle[int]{romancy.Spawn[int](w, "sq", 2), romancy.Spawn[int](w, "sq", 3),
			romancy.SpawnChild[int](w, "kid", 5)})
		if err != nil {
			return nil, err
		}
		c, err := romancy.Canvas[int](w, romancy.Chain(romancy.Task("sq", 2), romancy.Task("sq", nil)), nil)
		if err != nil {
			return nil, err
		}
		if _, err = romancy.Any(w, 0, w.SpawnTimer(moment)); err != nil {
			return nil, err
		}
		if _, err = romancy.Any(w, moment, romancy.SpawnReceive[any](w, "never")); !errors.Is(err, romancy.ErrTimeout) {
			return nil, err
		}
		k, err := romancy.Child[int](w, "kid", 7)
		return []any{r, c, k}, err
	})

	romancy.NewWorkflow(app, "saga", func(w *romancy.W, i int) (any, error) {
		if _, err := romancy.Call[any](w, "book", i); err != nil {
			return nil, err
		}
		w.Publish("news", "before")
		w.OnFailure("undo", "by hand")
		return nil, &romancy.Error{SQLState: "XX123", Message: "no"}
	})

	romancy.NewWorkflow(app, "caught", func(w *romancy.W, i int) (any, error) {
		if _, err := romancy.Call[any](w, "book", i); err != nil {
			return nil, err
		}
		if _, err := romancy.Call[any](w, "boom", i); err != nil {
			return w.Compensate()
		}
		return nil, nil
	})

	romancy.NewWorkflow(app, "messages", func(w *romancy.W, _ any) (any, error) {
		w.Subscribe("chat", "broadcast")
		w.JoinGroup("crowd")
		m, err := romancy.Receive[any](w, "nothing", moment)
		if errors.Is(err, romancy.ErrTimeout) {
			m, err = romancy.Receive[any](w, "go", 0)
		}
		w.Unsubscribe("chat")
		w.LeaveGroup("crowd")
		return m.Data, err
	})

	romancy.NewWorkflow(app, "generations", func(w *romancy.W, i int) (int, error) {
		if i < 2 {
			w.Recur(i + 1)
		}
		return i, nil
	})

	romancy.NewWorkflow(app, "others", func(w *romancy.W, _ any) (string, error) {
		w.RaiseEvent("shop.paid", "/shop", map[string]int{"n": 1})
		id, err := w.StartWorkflow("kid", 99, "")
		if err != nil {
			return "", err
		}
		_, err = w.CancelWorkflow(id, "too late")
		return "started", err
	})

	romancy.NewWorkflow(app, "web", func(w *romancy.W, url string) (any, error) {
		r := romancy.Must(romancy.HTTP[any](w, romancy.Request{Method: "post", URL: url + "/status/201", Body: map[string]int{"a": 1},
			Headers: map[string]string{"x-a": "b"}, Timeout: 30 * time.Second}))
		w.SendEvent("shop.paid", "/shop", r.Body, romancy.SendOptions{OrderingKey: "o-1"})
		if _, err := romancy.HTTP[any](w, romancy.Request{Method: "GET", URL: url + "/status/404"}); err == nil {
			return nil, nil
		}
		return []any{r.Status, r.Body}, nil
	})

	romancy.NewWorkflow(app, "leaves", func(w *romancy.W, _ any) (any, error) {
		w.Publish("news", 1)
		w.SetValue("left", true)
		return nil, nil
	})

	romancy.NewWorkflow(app, "counted", func(w *romancy.W, _ any) (int, error) {
		w.Publish("news", "first")
		return romancy.Transaction(w, "count", func(tx pgx.Tx) (int, error) {
			_, err := tx.Exec(ctx, "insert into counted (who) values (session_user)")
			return 1, err
		})
	})

	romancy.NewWorkflow(app, "refused", func(w *romancy.W, _ any) (string, error) { return strings.Repeat("x", 2000000), nil })

	if err := app.Run(ctx, romancy.WorkerOptions{Concurrency: 4}); err != nil {
		log.Fatal(err)
	}
}
