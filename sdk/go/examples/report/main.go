// A fan-out with progress: pages are measured in parallel, and every session can see how far it is (get_progress).
package main

import (
	"context"
	"log"

	"romancy"
)

func main() {
	ctx := context.Background()
	app, err := romancy.New(ctx, "", romancy.Options{Queue: "report"})
	if err != nil {
		log.Fatal(err)
	}
	measure := romancy.NewActivity(app, "measure", func(_ context.Context, page string) (int, error) {
		return len(page), nil
	}, romancy.MaxConcurrency(4))
	romancy.NewWorkflow(app, "report", func(w *romancy.W, pages []string) (int, error) {
		total := 0
		handles := make([]romancy.Handle[int], len(pages))
		for i, page := range pages {
			handles[i] = measure.Spawn(w, page)
		}
		for i, handle := range handles {
			size, err := romancy.Await(w, handle)
			if err != nil {
				return 0, err
			}
			total += size
			w.Progress(int64(i+1), int64(len(pages)), "measured")
		}
		return total, nil
	})
	if err = app.Run(ctx, romancy.WorkerOptions{}); err != nil {
		log.Fatal(err)
	}
}
