// An agent: a model is asked, its tools are called, however long they take, until it has an answer. A worker that dies
// in the middle loses no answer of the model: each is a step.
package main

import (
	"context"
	"fmt"
	"log"
	"strings"
	"time"

	"romancy"
)

type message struct{ Role, Content string }

type reply struct{ Answer, Tool, Input string }

func main() {
	ctx := context.Background()
	app, err := romancy.New(ctx, "", romancy.Options{Queue: "agent"})
	if err != nil {
		log.Fatal(err)
	}
	askModel := romancy.NewActivity(app, "ask_model", func(_ context.Context, messages []message) (reply, error) {
		last := messages[len(messages)-1] // here the model is called
		if last.Role == "tool" {
			return reply{Answer: "it has " + last.Content + " words"}, nil
		}
		return reply{Tool: "count", Input: last.Content}, nil
	}, romancy.Retry(map[string]any{"max_attempts": 0}))
	callTool := romancy.NewActivity(app, "call_tool", func(_ context.Context, r reply) (string, error) {
		time.Sleep(2 * time.Second) // longer than the lease: the worker renews it beside the work
		return fmt.Sprint(len(strings.Fields(r.Input))), nil
	}, romancy.Heartbeat(3*time.Second))
	romancy.NewWorkflow(app, "agent", func(w *romancy.W, question string) (string, error) {
		messages := []message{{"user", question}}
		for {
			r, err := askModel.Call(w, messages)
			if err != nil || r.Answer != "" {
				return r.Answer, err
			}
			w.SetValue("tool", r.Tool)
			content, err := callTool.Call(w, r)
			if err != nil {
				return "", err
			}
			messages = append(messages, message{"tool", content})
		}
	})
	if err = app.Run(ctx, romancy.WorkerOptions{Lease: time.Second}); err != nil {
		log.Fatal(err)
	}
}
