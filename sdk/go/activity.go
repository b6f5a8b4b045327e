package romancy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// ActivityInfo is what an activity may want besides its input; InfoOf gives it.
type ActivityInfo struct {
	InstanceID  string
	StepKey     string          // identifies the step to others; the same on every attempt
	Attempt     int             // from 1
	LastDetails json.RawMessage // what an attempt before this one gave to Heartbeat last
	beat        func(details any) (string, error)
	ask         func(result any, sql string, args ...any) error
}

// Progress says how far the instance is; total 0: unknown. Others see it with get_progress().
func (t *ActivityInfo) Progress(done, total int64, note string) error {
	var most, text any
	if total > 0 {
		most = total
	}
	if note != "" {
		text = note
	}
	return t.ask(nil, "select romancy.report_progress($1::text, $2::bigint, $3::bigint, $4::text)", done, most, text)
}

// ScheduledAt is the time that a schedule's run is for; nil in other instances. It asks the server.
func (t *ActivityInfo) ScheduledAt() (*time.Time, error) {
	var at *time.Time
	err := t.ask(&at, "select romancy.scheduled_at($1::text)")
	return at, err
}

type taskKey struct{}

// InfoOf gives the info of the activity that runs with ctx; nil elsewhere.
func InfoOf(ctx context.Context) *ActivityInfo {
	t, _ := ctx.Value(taskKey{}).(*ActivityInfo)
	return t
}

// Heartbeat renews the lease and keeps details for the next attempt (nil: none). ErrCancelled: the result is not wanted any more;
// ErrLeaseLost: another worker has the task.
func (t *ActivityInfo) Heartbeat(details any) error {
	state, err := t.beat(details)
	switch {
	case err != nil:
		return err
	case state == "cancel_requested":
		return &Error{SQLState: "RM008", Message: "the instance of this activity is over"}
	case state == "lost":
		return &Error{SQLState: "RM009", Message: "another worker has this activity now"}
	}
	return nil
}

type activityTask struct {
	Token       string          `json:"token"`
	Activity    string          `json:"activity"`
	Workflow    string          `json:"workflow"` // in its place, of a workflow's task
	InstanceID  string          `json:"instance_id"`
	StepKey     string          `json:"step_key"`
	Attempt     int             `json:"attempt"`
	Input       json.RawMessage `json:"input"`
	LastDetails json.RawMessage `json:"last_details"`
}

// teller runs a statement, and scans its row where there is something to scan into.
type teller func(result any, sql string, args ...any) error

// serveActivity runs an activity's task and says how it ended.
func (a *App) serveActivity(ctx context.Context, tell teller, t activityTask) error {
	ctx = context.WithValue(ctx, taskKey{}, &ActivityInfo{InstanceID: t.InstanceID, StepKey: t.StepKey, Attempt: t.Attempt, LastDetails: t.LastDetails,
		ask: func(result any, sql string, args ...any) error {
			return tell(result, sql, append([]any{t.Token}, args...)...)
		},
		beat: func(details any) (string, error) {
			var state string
			var raw any
			if details != nil {
				text, err := json.Marshal(details)
				if err != nil {
					return "", err
				}
				raw = string(text)
			}
			err := tell(&state, "select romancy.heartbeat_activity($1::text, $2::jsonb)", t.Token, raw)
			return state, err
		}})
	const sql = "select romancy.fail_activity($1::text, $2::text, $3::text, $4::jsonb, $5::boolean)"
	return safely(func() error {
		result, failure := a.runActivity(ctx, t.Activity, t.Input)
		if failure == nil {
			var kept bool
			err := tell(&kept, "select romancy.complete_activity($1::text, $2::jsonb)", t.Token, string(result))
			if err == nil && !kept {
				return fmt.Errorf("%w: activity %q", errLate, t.Activity)
			}
			if err == nil || isPassing(err) {
				return err
			}
			failure = err // a result that is too large, say
		} else if errors.Is(failure, ErrLeaseLost) {
			return failure
		}
		err := tell(nil, sql, t.Token, messageOf(failure), codeOf(failure), detailOf(failure), isTerminal(failure))
		if err == nil || isPassing(err) {
			return err
		}
		// a detail that no document can hold, or that is too large
		return tell(nil, sql, t.Token, short(messageOf(failure), 1000), "error", nil, isTerminal(failure))
	}, func(err accident) error { return tell(nil, sql, t.Token, messageOf(err), "error", nil, false) })
}

var errLate = errors.New("a result came when the lease was lost or the instance over")

// runActivity runs an activity's function; a panic is an error, and so is the end of its goroutine.
func (a *App) runActivity(ctx context.Context, name string, input json.RawMessage) (raw json.RawMessage, err error) {
	code, ok := a.activities[name]
	if !ok {
		return nil, Fail("RM001", fmt.Sprintf("this worker has no activity %q", name))
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		returned := false
		defer func() {
			if r := recover(); r != nil {
				err = fmt.Errorf("panic: %v\n%s", r, debug.Stack())
			} else if !returned {
				err = errors.New("runtime.Goexit was called in the activity")
			}
		}()
		var result any
		if result, err = code.run(ctx, input); err == nil {
			raw, err = json.Marshal(result)
		}
		returned = true
	}()
	<-ended
	return raw, err
}
