// The interpreter of ../../../vectors/programs.sql in Go. A worker, for ROMANCY_TEST_CONNINFO.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"romancy"
)

type statement struct {
	Do   string      `json:"do"`
	N    int         `json:"n,omitempty"`
	Body []statement `json:"body,omitempty"`
	Then []statement `json:"then,omitempty"`
	Else []statement `json:"else,omitempty"`
}

func handles(n int, spawn func(int) romancy.Handle[int]) []romancy.Handle[int] {
	all := make([]romancy.Handle[int], n)
	for g := range all {
		all[g] = spawn(g + 1)
	}
	return all
}

func perform(w *romancy.W, body []statement, a int) (int, error) {
	for _, s := range body {
		n, value, err := s.N, 0, error(nil)
		switch s.Do {
		case "activity":
			value, err = romancy.Call[int](w, "sq", n)
		case "named":
			value, err = romancy.Call[int](w, "sq", a%100, romancy.ActivityID(fmt.Sprint("own_", n)))
		case "parallel":
			var all []int
			if all, err = romancy.All(w, handles(n, func(g int) romancy.Handle[int] { return romancy.Spawn[int](w, "sq", g) })); err == nil {
				value = all[n-1]
			}
		case "map_children":
			var all []int
			if all, err = romancy.All(w, handles(n, func(g int) romancy.Handle[int] { return romancy.SpawnChild[int](w, "kid", g) })); err == nil {
				value = all[0]
			}
		case "child":
			value, err = romancy.Child[int](w, "kid", n)
		case "canvas":
			value, err = romancy.Canvas[int](w, romancy.Chain(romancy.Task("sq", n), romancy.Task("sq", nil)), nil)
		case "publish":
			w.Publish("news", a)
		case "set":
			w.SetValue(fmt.Sprint("k", n), a)
		case "labels":
			w.SetLabels(map[string]any{"l": n})
		case "values":
			w.Now()
			w.Random()
			w.UUID()
		case "patched":
			if w.Patched(fmt.Sprint("p", n)) {
				value = 1
			}
		case "sleep":
			w.Sleep(time.Millisecond)
		case "timer":
			_, err = romancy.Any(w, 0, w.SpawnTimer(time.Millisecond))
		case "receive":
			if _, err = romancy.Receive[any](w, fmt.Sprint("c", n), time.Millisecond); errors.Is(err, romancy.ErrTimeout) {
				value, err = 1, nil
			}
		case "book":
			_, err = romancy.Call[any](w, "book", n)
		case "register":
			w.OnFailure("undo", n)
		case "compensate":
			value, err = w.Compensate()
		case "boom":
			_, err = romancy.Call[any](w, "boom", n)
		case "raise":
			err = &romancy.Error{SQLState: "XX123", Message: fmt.Sprint("raised ", n)}
		case "if":
			chosen := s.Else
			if a%2 == 0 {
				chosen = s.Then
			}
			if a, err = perform(w, chosen, a); err != nil {
				return 0, err
			}
		case "loop":
			for g := 0; g < n; g++ {
				if a, err = perform(w, s.Body, a); err != nil {
					return 0, err
				}
			}
		case "try":
			after, failure := perform(w, s.Body, a)
			if a += 7; failure == nil {
				a = after
			}
		}
		if err != nil {
			return 0, err
		}
		a += value
	}
	return a, nil
}

func main() {
	ctx := context.Background()
	queue := os.Getenv("ROMANCY_TEST_QUEUE")
	if queue == "" {
		queue = "random"
	}
	app, err := romancy.New(ctx, os.Getenv("ROMANCY_TEST_CONNINFO"), romancy.Options{Queue: queue})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	romancy.NewWorkflow(app, "kid", func(w *romancy.W, i int) (int, error) { return romancy.Call[int](w, "sq", i) })
	for _, name := range []string{"random_program", "random_async"} {
		romancy.NewWorkflow(app, name, func(w *romancy.W, program []statement) (int, error) { return perform(w, program, 0) })
	}
	if err := app.Run(ctx, romancy.WorkerOptions{Concurrency: 4}); err != nil {
		log.Fatal(err)
	}
}
