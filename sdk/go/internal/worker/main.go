// The activities, or the workflow, of tests of workers: worker activities|workflows|held|bench QUEUE, for ROMANCY_TEST_CONNINFO.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"romancy"
)

type job struct {
	N     int  `json:"n"`
	Fail  int  `json:"fail,omitempty"`
	Never bool `json:"never,omitempty"`
}

type guest struct {
	Name  string
	Upper bool
}

func seconds(at *time.Time) int64 {
	if at == nil {
		return 0
	}
	return at.Unix()
}

func number(variable string) int {
	n, _ := strconv.Atoi(os.Getenv(variable))
	return n
}

func main() {
	ctx := context.Background()
	app, err := romancy.New(ctx, os.Getenv("ROMANCY_TEST_CONNINFO"), romancy.Options{Queue: os.Args[2]})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	if os.Args[1] == "activities" {
		romancy.NewActivity(app, "upper", func(_ context.Context, text string) (string, error) {
			// (the one letter whose upper case has two)
			return strings.ReplaceAll(strings.ToUpper(text), "\u0149", "\u02bcN"), nil
		}, romancy.Retry(map[string]any{"max_attempts": 1}))
		romancy.NewActivity(app, "work", func(ctx context.Context, j job) (map[string]int, error) {
			time.Sleep(20 * time.Millisecond)
			attempt := romancy.InfoOf(ctx).Attempt
			if j.Fail >= attempt {
				return nil, fmt.Errorf("bad luck with %d", j.N)
			}
			if j.Never {
				return nil, romancy.Fail("NonRetryable", "this one never works")
			}
			return map[string]int{"n": j.N, "attempt": attempt}, nil
		}, romancy.Retry(map[string]any{"initial_interval": "20ms", "max_attempts": 3}))
		romancy.NewActivity(app, "careful", func(ctx context.Context, _ any) (map[string]any, error) {
			info := romancy.InfoOf(ctx)
			if err := info.Heartbeat(map[string]int{"begun": info.Attempt}); err != nil {
				return nil, err
			}
			if string(info.LastDetails) == "null" {
				return nil, fmt.Errorf("begun, not done")
			}
			result := map[string]any{"key": info.StepKey[strings.LastIndex(info.StepKey, "/")+1:], "same": strings.Contains(info.StepKey, info.InstanceID)}
			return result, json.Unmarshal(info.LastDetails, &result)
		}, romancy.Retry(map[string]any{"initial_interval": "20ms"}))
	} else if os.Args[1] == "held" {
		// ends when the test lets go of a lock
		romancy.NewActivity(app, "held", func(ctx context.Context, i int) (int, error) {
			_, err := app.Pool.Exec(ctx, "select pg_advisory_xact_lock_shared(42)")
			return i, err
		}, romancy.Retry(map[string]any{"max_attempts": 1}))
		meantFor := romancy.NewActivity(app, "meant_for", func(ctx context.Context, _ any) (int64, error) {
			at, err := romancy.InfoOf(ctx).ScheduledAt()
			return seconds(at), err
		})
		romancy.NewWorkflow(app, "planned", func(w *romancy.W, _ any) ([]int64, error) {
			return []int64{seconds(w.ScheduledAt()), romancy.Must(meantFor.Call(w, nil))}, nil
		})
	} else if os.Args[1] == "bench" {
		one := romancy.NewActivity(app, "one", func(_ context.Context, i int) (int, error) { return i + 1, nil })
		romancy.NewWorkflow(app, "three", func(w *romancy.W, i int) (int, error) {
			return romancy.Must(one.Call(w, romancy.Must(one.Call(w, romancy.Must(one.Call(w, i)))))), nil
		})
		romancy.NewWorkflow(app, "parked", func(w *romancy.W, _ any) (any, error) { return romancy.Receive[any](w, "never", 0) })
	} else {
		romancy.NewWorkflow(app, "greet", func(w *romancy.W, g guest) (map[string]string, error) {
			text := "Hello, " + g.Name
			w.Sleep(100 * time.Millisecond)
			if g.Upper {
				text = romancy.Must(romancy.Call[string](w, "upper", text))
			}
			return map[string]string{"text": text}, nil
		})
	}
	if err = app.Run(ctx, romancy.WorkerOptions{Concurrency: number("ROMANCY_TEST_CONCURRENCY"), Prefetch: number("ROMANCY_TEST_PREFETCH")}); err != nil {
		log.Fatal(err)
	}
}
