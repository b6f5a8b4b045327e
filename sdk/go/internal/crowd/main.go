// Workflows that are killed, stopped and cut off while they run, for ROMANCY_TEST_CONNINFO.
package main

import (
	"context"
	"log"
	"os"
	"time"

	"github.com/jackc/pgx/v5"

	"romancy"
)

func main() {
	ctx := context.Background()
	app, err := romancy.New(ctx, os.Getenv("ROMANCY_TEST_CONNINFO"), romancy.Options{Queue: "crowd"})
	if err != nil {
		log.Fatal(err)
	}
	defer app.Close()
	outside := romancy.NewActivity(app, "outside", func(ctx context.Context, n int) (int, error) {
		_, err := app.Pool.Exec(ctx, "insert into crowd_step values ($1::int, 'outside')", n)
		return n, err
	}, romancy.Retry(map[string]any{"max_attempts": 0, "initial_interval": "50 ms"}))
	mark := func(w *romancy.W, n int, step string) error {
		_, err := romancy.Transaction(w, step, func(tx pgx.Tx) (any, error) {
			_, err := tx.Exec(ctx, "insert into crowd_step values ($1::int, $2::text)", n, step)
			return nil, err
		})
		return err
	}
	romancy.NewWorkflow(app, "crowd", func(w *romancy.W, n int) (int, error) {
		if err := mark(w, n, "first"); err != nil {
			return 0, err
		}
		both, err := romancy.All(w, []romancy.Handle[int]{outside.Spawn(w, n), romancy.Spawn[int](w, "inside", n)})
		if err != nil {
			return 0, err
		}
		w.Sleep(20 * time.Millisecond)
		return both[0] + both[1], mark(w, n, "second")
	})
	if err := app.Run(ctx, romancy.WorkerOptions{Concurrency: 8, Lease: 2 * time.Second}); err != nil {
		log.Fatal(err)
	}
}
