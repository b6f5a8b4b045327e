// The scenarios of ../../../vectors/scenarios.sql in Go. A worker, for ROMANCY_TEST_CONNINFO.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"math"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"romancy"
)

const moment = 20 * time.Millisecond

func queue() string {
	if q := os.Getenv("ROMANCY_TEST_QUEUE"); q != "" {
		return q
	}
	return "scenarios"
}

func hostileNames() []byte {
	raw, err := os.ReadFile(os.Getenv("ROMANCY_TEST_VECTORS") + "/hostile.json")
	if err != nil {
		log.Fatal(err)
	}
	return raw
}

func main() {
	ctx := context.Background()
	app, err := romancy.New(ctx, os.Getenv("ROMANCY_TEST_CONNINFO"), romancy.Options{Queue: queue()})
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

	romancy.NewWorkflow(app, "more", func(w *romancy.W, _ any) (any, error) {
		m := romancy.Must(romancy.Map[int](w, "sq", []int{1, 2, 3, 4, 5}, 2))
		w.Sleep(10*time.Millisecond, romancy.ActivityID("nap"))
		w.SleepUntil(time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), romancy.ActivityID("past"))
		if _, err := romancy.Receive[any](w, "nothing", 10*time.Millisecond, romancy.ActivityID("ear")); !errors.Is(err, romancy.ErrTimeout) {
			return nil, err
		}
		if _, err := romancy.WaitEvent[any](w, "no.such", 10*time.Millisecond, romancy.ActivityID("eye")); !errors.Is(err, romancy.ErrTimeout) {
			return nil, err
		}
		w.RaiseEvent("shop.seen", "/shop", map[string]int{"n": 1},
			romancy.EventOptions{ID: "e-" + w.InstanceID(), Subject: "s", Time: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)})
		id := romancy.Must(w.StartWorkflow("kid", 99, "", romancy.StartAt(time.Date(2126, 1, 1, 0, 0, 0, 0, time.UTC)), romancy.Priority(3),
			romancy.Labels(map[string]any{"l": 1})))
		romancy.Must(w.CancelWorkflow(id, "too early"))
		c := romancy.Must(romancy.Child[int](w, "kid", 3, romancy.ActivityID("own_kid"), romancy.OnParentClose("abandon"),
			romancy.Labels(map[string]any{"l": 2}), romancy.Priority(2)))
		w.SendTo(w.InstanceID(), "self", []byte{0, 255}, romancy.Metadata(map[string]int{"m": 1}))
		b := romancy.Must(romancy.Receive[any](w, "self", 0)).Binary
		return []any{m, c, b[1], w.ScheduledAt() == nil, w.WorkflowName()}, nil
	})

	romancy.NewWorkflow(app, "web_parallel", func(w *romancy.W, url string) (any, error) {
		a := romancy.SpawnHTTP[any](w, romancy.Request{Method: "POST", URL: url + "/status/201", Body: map[string]int{"a": 1}})
		b := romancy.Spawn[int](w, "sq", 3)
		c := romancy.SpawnHTTP[any](w, romancy.Request{Method: "GET", URL: url + "/status/202", Timeout: 30 * time.Second}, romancy.ActivityID("mine"))
		return []any{romancy.Must(romancy.Await(w, a)).Status, romancy.Must(romancy.Await(w, b)), romancy.Must(romancy.Await(w, c)).Status}, nil
	})

	var names []string
	if err := json.Unmarshal(hostileNames(), &names); err != nil {
		log.Fatal(err)
	}
	for _, name := range names {
		square := romancy.NewActivity(app, name, func(_ context.Context, i int) (int, error) { return i * i, nil })
		romancy.NewWorkflow(app, "W"+name, func(w *romancy.W, n string) (any, error) {
			a := romancy.Must(square.Call(w, 3))
			h := romancy.Must(romancy.All(w, []romancy.Handle[int]{square.Spawn(w, 2), square.Spawn(w, 4)}))
			w.Subscribe(n, "broadcast")
			w.JoinGroup(n)
			w.Publish(n, "x")
			m := romancy.Must(romancy.Receive[any](w, n, 0))
			w.SetValue(n, a)
			w.SetLabels(map[string]any{n: n})
			var k any
			if w.Patched(n) {
				k = romancy.Must(romancy.Child[int](w, "kid", 3, romancy.ActivityID("kid of "+n)))
			}
			w.OnFailure(n, 1)
			return []any{n, a, h, m.Data, k}, nil
		})
	}

	romancy.NewWorkflow(app, "unfit", func(w *romancy.W, i int) (any, error) {
		switch i {
		case 0:
			return math.NaN(), nil
		case 1:
			return make(chan int), nil
		case 2:
			return "\x00", nil
		}
		return romancy.Call[any](w, "sq", math.Inf(1))
	})
	romancy.NewWorkflow(app, "unfit_error", func(*romancy.W, any) (any, error) {
		return nil, &romancy.Error{SQLState: "X", Code: "co\x00de", Message: "no \x00 good", Detail: json.RawMessage(`{"d": "\u0000"}`)}
	})
	unfit := romancy.NewActivity(app, "unfit_activity", func(_ context.Context, i int) (any, error) {
		if i == 0 {
			return make(chan int), nil
		}
		return nil, &romancy.Error{Code: "co\x00de", Message: "no \x00 good", Detail: json.RawMessage(`{"d": `), Terminal: true}
	}, romancy.Retry(map[string]any{"max_attempts": 1}))
	romancy.NewWorkflow(app, "unfit_step", func(w *romancy.W, i int) (any, error) { return unfit.Call(w, i) })

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
