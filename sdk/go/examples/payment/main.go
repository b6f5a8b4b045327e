// A payment with a saga: when a later step fails for good, what was done is undone, last first, by the server.
package main

import (
	"context"
	"fmt"
	"log"

	"romancy"
)

type order struct {
	Item    string `json:"item"`
	Cents   int    `json:"cents"`
	Address string `json:"address,omitempty"`
}

type undo struct{ Result string }

func main() {
	ctx := context.Background()
	app, err := romancy.New(ctx, "", romancy.Options{Queue: "payment"})
	if err != nil {
		log.Fatal(err)
	}
	romancy.NewActivity(app, "release", func(_ context.Context, u undo) (any, error) {
		fmt.Println("released", u.Result)
		return nil, nil
	})
	romancy.NewActivity(app, "refund", func(_ context.Context, u undo) (any, error) {
		fmt.Println("refunded", u.Result)
		return nil, nil
	})
	reserve := romancy.NewActivity(app, "reserve", func(_ context.Context, o order) (string, error) {
		return "stock of " + o.Item, nil
	}, romancy.Compensation("release"))
	charge := romancy.NewActivity(app, "charge", func(_ context.Context, o order) (string, error) {
		return fmt.Sprintf("%d cents", o.Cents), nil
	}, romancy.Compensation("refund"))
	ship := romancy.NewActivity(app, "ship", func(_ context.Context, o order) (string, error) {
		if o.Address == "" {
			return "", romancy.Fail("NoAddress", "there is no address")
		}
		return "parcel to " + o.Address, nil
	})
	romancy.NewWorkflow(app, "payment", func(w *romancy.W, o order) (string, error) {
		if _, err := reserve.Call(w, o); err != nil {
			return "", err
		}
		if _, err := charge.Call(w, o); err != nil {
			return "", err
		}
		return ship.Call(w, o)
	})
	if err = app.Run(ctx, romancy.WorkerOptions{}); err != nil {
		log.Fatal(err)
	}
}
