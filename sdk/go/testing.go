package romancy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Session runs an app's workflows and activities in one transaction, without waiting.
type Session struct {
	Tx  pgx.Tx
	app *App
}

// Test defines the app's names, calls f with a Session, and rolls all back.
func (a *App) Test(ctx context.Context, f func(*Session) error) error {
	tx, err := a.Pool.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() {
		a.forget()
		a.session = nil
		_ = tx.Rollback(ctx)
	}()
	if err := a.Define(ctx, tx); err != nil {
		return err
	}
	a.session = tx // (client calls that name no transaction are made in this one, too)
	return f(&Session{Tx: tx, app: a})
}

// Run runs all that is ready, here and in the database, until nothing is. advance: timers count as due, the earliest
// first, once nothing else is ready. An activity's next attempt is waited for.
func (s *Session) Run(ctx context.Context, advance bool) error {
	for i := 0; i < 10000; i++ {
		served, err := s.serve(ctx)
		if err != nil {
			return err
		}
		turns, err := s.drain(ctx, 10000, false)
		if err != nil {
			return err
		}
		if served+turns > 0 {
			continue
		}
		waited, err := s.waitForRetry(ctx)
		if err != nil {
			return err
		}
		if waited {
			continue
		}
		if advance {
			if turns, err = s.drain(ctx, 1, true); err != nil {
				return err
			}
		}
		if turns == 0 {
			return nil
		}
	}
	return fmt.Errorf("the workflows did not come to rest")
}

func (s *Session) drain(ctx context.Context, most int, advance bool) (int, error) {
	var turns int
	err := s.Tx.QueryRow(ctx, "call romancy.drain($1::int, $2::boolean, null)", most, advance).Scan(&turns)
	return turns, fromDatabase(err)
}

func (s *Session) serve(ctx context.Context) (int, error) {
	tasks := func(sql string) ([]string, error) {
		rows, err := s.Tx.Query(ctx, sql, s.app.options.Queue)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[string])
	}
	workflows, err := tasks("select to_jsonb(t)::text from romancy.fetch_workflows($1::text, 'test', 100) t")
	if err != nil {
		return 0, fromDatabase(err)
	}
	for _, raw := range workflows {
		var task workflowTask
		if err := json.Unmarshal([]byte(raw), &task); err != nil {
			return 0, err
		}
		if err := s.app.stepWorkflow(ctx, s.Tx, task); err != nil {
			return 0, err
		}
	}
	activities, err := tasks("select to_jsonb(t)::text from romancy.fetch_activities($1::text, 'test', 100) t")
	if err != nil {
		return 0, fromDatabase(err)
	}
	for _, raw := range activities {
		var task activityTask
		if err := json.Unmarshal([]byte(raw), &task); err != nil {
			return 0, err
		}
		if err := s.app.serveActivity(ctx, s.tell, task); err != nil && !errors.Is(err, errLate) {
			return 0, err
		}
	}
	return len(workflows) + len(activities), nil
}

// tell runs a statement; an error takes nothing else of the transaction back.
func (s *Session) tell(result any, sql string, args ...any) error {
	ctx := context.Background()
	part, err := s.Tx.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = part.Rollback(ctx) }()
	if err = ask(ctx, part, result, sql, args...); err != nil {
		return err
	}
	return part.Commit(ctx)
}

func (s *Session) waitForRetry(ctx context.Context) (bool, error) {
	var seconds *float64
	var ready int
	err := s.Tx.QueryRow(ctx, "select extract(epoch from min(due_at) - clock_timestamp())::float8,"+
		" count(*) filter (where status = 'ready')::int from romancy.activity_tasks"+
		" where queue = $1::text and status in ('waiting', 'ready')", s.app.options.Queue).Scan(&seconds, &ready)
	if err != nil || ready > 0 || seconds == nil {
		return ready > 0, fromDatabase(err)
	}
	time.Sleep(time.Duration(max(0, *seconds)*float64(time.Second)) + time.Millisecond)
	return true, nil
}

// Outcome gives the output of an instance that has ended, or its error.
func Outcome[O any](ctx context.Context, s *Session, i Instance[O]) (O, error) {
	var status string
	var output, failure *string
	var zero O
	err := s.Tx.QueryRow(ctx, "select status::text, output::text, error::text from romancy.instances where instance_id = $1::uuid", i.ID).
		Scan(&status, &output, &failure)
	if err != nil {
		return zero, fromDatabase(err)
	}
	if failure != nil && (status == "failed" || status == "cancelled" || status == "paused") {
		return zero, fromDocument(json.RawMessage(*failure))
	}
	if status != "completed" {
		return zero, fmt.Errorf("the instance has not ended: it is %s", status)
	}
	if output == nil {
		return zero, nil
	}
	return decode[O](json.RawMessage(*output))
}
