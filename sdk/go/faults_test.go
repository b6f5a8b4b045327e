package romancy

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Mistakes of a newcomer's program, and accidents that it meets: in test sessions, and with a real worker.

type faults struct {
	*App
	done    []string
	version int
	runs    int
}

// odd is an error whose Error() panics where it is a nil pointer.
type odd struct{ text string }

func (o *odd) Error() string { return o.text }

func newFaults(t testing.TB) *faults {
	app, err := New(context.Background(), os.Getenv("ROMANCY_TEST_URL"), Options{Queue: "go_faults"})
	if err != nil {
		t.Fatal(err)
	}
	f := &faults{App: app, version: 1}
	NewActivity(app, "go_note", func(_ context.Context, text string) (string, error) {
		f.done = append(f.done, text)
		return text, nil
	})
	once := Retry(map[string]any{"max_attempts": 1})
	NewActivity(app, "go_odd", func(ctx context.Context, what string) (any, error) {
		switch what {
		case "exit":
			runtime.Goexit()
		case "panic":
			panic("at the disco")
		case "nil":
			var p *faults
			return p.version, nil
		case "NaN":
			return math.NaN(), nil
		case "channel":
			return make(chan int), nil
		case "no error":
			var none *odd
			return nil, none
		case "sql":
			_, err := app.Pool.Exec(ctx, "select 1/0")
			return nil, fmt.Errorf("counting: %w", err)
		}
		return nil, nil
	}, once)
	// a call in a deferred function, where the code waits
	NewWorkflow(app, "go_tidy", func(w *W, _ any) (string, error) {
		defer func() { _, _ = Call[string](w, "go_note", "after") }()
		if _, err := Call[string](w, "go_note", "before"); err != nil {
			return "", err
		}
		_, err := Receive[any](w, "go", 0)
		return "tidy", err
	})
	NewWorkflow(app, "go_hides_change", func(w *W, _ any) (result string, err error) {
		defer func() {
			if recover() != nil {
				result = "hidden"
			}
		}()
		if _, err := Call[string](w, "go_note", fmt.Sprint(f.version)); err != nil {
			return "", err
		}
		_, err = Receive[any](w, "go", 0)
		return "done", err
	})
	NewWorkflow(app, "go_transaction_fails", func(w *W, _ any) (map[string]string, error) {
		_, err := Transaction(w, "declined", func(pgx.Tx) (any, error) {
			f.runs++
			return nil, Fail("Declined", "no money")
		})
		var e *Error
		if !errors.As(err, &e) {
			return nil, fmt.Errorf("another error: %w", err)
		}
		if _, err := Receive[any](w, "go", 0); err != nil {
			return nil, err
		}
		note, err := Call[string](w, "go_note", "went on")
		return map[string]string{"seen": e.Message, "code": e.Code, "note": note}, err
	})
	NewWorkflow(app, "go_transaction_typo", func(w *W, _ any) (any, error) {
		return Transaction(w, "typo", func(tx pgx.Tx) (any, error) {
			_, err := tx.Exec(context.Background(), "select * from no_such_table")
			return nil, err
		})
	})
	NewWorkflow(app, "go_calls_odd", func(w *W, what string) (any, error) { return Call[any](w, "go_odd", what) })
	NewWorkflow(app, "go_exits", func(*W, any) (any, error) {
		runtime.Goexit()
		return nil, nil
	})
	NewWorkflow(app, "go_sets", func(w *W, _ any) (any, error) {
		w.SetValue("x", math.Inf(1))
		return nil, nil
	})
	// what is not encoded where it is given
	NewWorkflow(app, "go_holds", func(w *W, what string) (any, error) {
		nan := map[string]any{"x": math.NaN()}
		switch what {
		case "labels":
			w.SetLabels(nan)
		case "labels of a child":
			return Child[any](w, "go_nothing", nil, Labels(map[string]any{"x": make(chan int)}))
		case "retry":
			return Call[any](w, "go_note", "x", RetryPolicy(map[string]any{"max_attempts": math.Inf(1)}))
		case "raised":
			w.RaiseEvent("x", "/x", nil, EventOptions{Extensions: nan})
		case "sent":
			w.SendEvent("x", "/x", nil, SendOptions{Extensions: map[string]any{"x": func() {}}})
		case "no error":
			var none *odd
			return nil, none
		case "detail of the end":
			return nil, &Error{Code: "Declined", Message: "no money", Detail: []byte("{")}
		}
		_, err := Transaction(w, "declined", func(pgx.Tx) (any, error) {
			return nil, &Error{Code: "Declined", Message: "no money", Detail: []byte("{")}
		})
		return nil, err
	})
	// what the server refuses after the code of a transaction
	NewWorkflow(app, "go_transaction_refused", func(w *W, what string) (string, error) {
		_, err := Transaction(w, "refused", func(tx pgx.Tx) (result string, err error) {
			f.runs++
			ctx := context.Background()
			switch what {
			case "swallowed":
				_, _ = tx.Exec(ctx, "select 1/0")
			case "too large":
				result = strings.Repeat("x", 2000000)
			case "ended":
				err = tx.Rollback(ctx)
			case "deferred":
				_, err = tx.Exec(ctx, "insert into go_pairs values (1, 2)")
			case "panic":
				panic("at the disco")
			case "must":
				Must(tx.Exec(ctx, "select 1/0"))
			}
			return result, err
		})
		var e *Error
		if !errors.As(err, &e) {
			return "", fmt.Errorf("another error: %w", err)
		}
		note := Must(Call[string](w, "go_note", "went on"))
		Must(Receive[any](w, "go", 0))
		return fmt.Sprint(e.SQLState, " ", e.Message, ", ", note), nil
	})
	NewWorkflow(app, "go_inside", func(w *W, what string) (string, error) {
		_, err := Transaction(w, "inside", func(pgx.Tx) (any, error) {
			switch what {
			case "UUID":
				w.UUID()
			case "Now":
				w.Now()
			case "Call":
				return Call[any](w, "go_note", "inside")
			case "Sleep":
				w.Sleep(time.Second)
			case "Receive":
				return Receive[any](w, "go", 0)
			case "SetValue":
				w.SetValue("x", 1)
			case "Progress":
				w.Progress(1, 2, "")
			case "Patched":
				w.Patched("x")
			case "All":
				return All[any](w, nil)
			case "Transaction":
				return Transaction(w, "again", func(pgx.Tx) (any, error) { return nil, nil })
			}
			return nil, nil
		})
		if err == nil {
			return "no error", nil
		}
		Must(Receive[any](w, "go", 0))
		return err.Error() + " " + Must(Call[string](w, "go_note", "after")), nil
	})
	NewWorkflow(app, "go_many_left", func(w *W, _ any) (string, error) {
		for i := 0; i < 300; i++ {
			Spawn[any](w, "go_of_others", i)
		}
		for i := 0; i < 60; i++ {
			Must(Call[string](w, "go_note", "in its turn"))
		}
		return "in its turn", nil
	})
	NewWorkflow(app, "go_nothing", func(w *W, _ any) (string, error) {
		results, err := All[int](w, nil)
		if err != nil || len(results) != 0 {
			return "", fmt.Errorf("results %v, %w", results, err)
		}
		_, err = Any(w, 0)
		return err.Error(), nil
	})
	NewActivity(app, "go_measures", func(ctx context.Context, x int64) (any, error) { return nil, InfoOf(ctx).Progress(x, 4, "measured") })
	NewWorkflow(app, "go_messages", func(w *W, _ any) (string, error) {
		sent := []Handle[int64]{w.Publish("news", 1), w.SendTo(w.InstanceID(), "go", 0)}
		ids, err := All(w, sent)
		if err != nil {
			return "", err
		}
		first, own := Must(Receive[int](w, "go", 0)), Must(Receive[int](w, "go", 0))
		Must(Call[any](w, "go_measures", 3))
		started := Must(StartMany(w, "go_tidy", []int{1, 2, 3}))
		return fmt.Sprint(first.Data, own.Data, " ", first.Publisher, " ", own.Publisher, " ", first.Sender == w.InstanceID(), own.Sender == "", ids[0] > 0, ids[1] == first.ID,
			len(started), started[0] != started[1]), nil
	})
	return f
}

// through gives the result of an instance that is sent "go" when it waits.
func (f *faults) through(name string, input any) (result any, err error) {
	ctx := context.Background()
	err = f.Test(ctx, func(s *Session) error {
		instance, err := Workflow[any, any]{name, f.App}.Start(ctx, input, StartOptions{})
		if err == nil {
			err = s.Run(ctx, false)
		}
		if err != nil {
			return err
		}
		if status, err := instance.Status(ctx); err != nil || status == "waiting_for_message" {
			f.forget() // as in another process
			if err = errors.Join(err, instance.Signal(ctx, "go", 1, nil), s.Run(ctx, false)); err != nil {
				return err
			}
		}
		result, err = Outcome(ctx, s, instance)
		return err
	})
	return result, err
}

func TestFaults(t *testing.T) {
	f := newFaults(t)
	defer f.Close()
	ctx := context.Background()
	want := func(t *testing.T, name string, input any, expected any) {
		t.Helper()
		if result, err := f.through(name, input); err != nil || fmt.Sprint(result) != fmt.Sprint(expected) {
			t.Errorf("%s: %v, %v; expected %v", name, result, err, expected)
		}
	}
	fails := func(t *testing.T, name string, input any, state, code, message string) {
		t.Helper()
		_, err := f.through(name, input)
		var e *Error
		if !errors.As(err, &e) || e.SQLState != state || e.Code != code || !strings.Contains(e.Message, message) {
			t.Errorf("%s(%v): %#v", name, input, err)
		}
	}
	t.Run("a deferred call runs when the function is left, and not when it waits", func(t *testing.T) {
		want(t, "go_tidy", nil, "tidy")
		if got := strings.Join(f.done, " "); got != "before after" {
			t.Error(got)
		}
		before := runtime.NumGoroutine()
		for i := 0; i < 20; i++ {
			want(t, "go_tidy", nil, "tidy")
		}
		for i := 0; i < 100 && runtime.NumGoroutine() > before+2; i++ {
			time.Sleep(50 * time.Millisecond)
		}
		if after := runtime.NumGoroutine(); after > before+2 {
			t.Errorf("%d goroutines are left of runs that were given up", after-before)
		}
	})
	t.Run("a changed program is paused whatever it recovers from", func(t *testing.T) {
		err := f.Test(ctx, func(s *Session) error {
			instance, err := Workflow[any, any]{"go_hides_change", f.App}.Start(ctx, nil, StartOptions{})
			if err != nil {
				return err
			}
			if _, err = s.drain(ctx, 100, false); err == nil {
				_, err = s.serve(ctx)
			}
			f.forget()
			f.version = 2
			err = errors.Join(err, s.Run(ctx, false))
			if status, _ := instance.Status(ctx); status != "paused" {
				t.Errorf("it is %s", status)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	})
	t.Run("an error of a transaction is part of history", func(t *testing.T) {
		want(t, "go_transaction_fails", nil, map[string]string{"code": "Declined", "note": "went on", "seen": "no money"})
		if f.runs != 1 {
			t.Errorf("%d runs", f.runs)
		}
	})
	t.Run("a typo in a statement is no missing extension", func(t *testing.T) {
		fails(t, "go_transaction_typo", nil, "42P01", "", `relation "no_such_table" does not exist`)
	})
	t.Run("however an activity ends, it is told", func(t *testing.T) {
		fails(t, "go_calls_odd", "exit", "RM007", "error", "runtime.Goexit")
		fails(t, "go_calls_odd", "panic", "RM007", "error", "panic: at the disco")
		fails(t, "go_calls_odd", "nil", "RM007", "error", "nil pointer")
		fails(t, "go_calls_odd", "NaN", "RM007", "error", "NaN")
		fails(t, "go_calls_odd", "channel", "RM007", "error", "chan int")
		fails(t, "go_calls_odd", "sql", "22012", "", "counting: ERROR: division by zero")
		fails(t, "go_exits", nil, "RM007", "error", "runtime.Goexit")
		fails(t, "go_sets", nil, "RM007", "error", "+Inf")
	})
	t.Run("what JSON cannot hold is the error of the call that has it", func(t *testing.T) {
		fails(t, "go_holds", "labels", "RM007", "error", "NaN")
		fails(t, "go_holds", "labels of a child", "RM007", "error", "chan int")
		fails(t, "go_holds", "retry", "RM007", "error", "+Inf")
		fails(t, "go_holds", "raised", "RM007", "error", "NaN")
		fails(t, "go_holds", "sent", "RM007", "error", "func()")
		fails(t, "go_holds", "detail of the transaction", "RM007", "Declined", "no money")
		fails(t, "go_holds", "detail of the end", "RM007", "Declined", "no money")
	})
	t.Run("an error that panics is told", func(t *testing.T) {
		fails(t, "go_holds", "no error", "RM007", "error", "panic: runtime error: invalid memory address")
		fails(t, "go_calls_odd", "no error", "RM007", "error", "panic: runtime error: invalid memory address")
	})
	t.Run("what a transaction's record or its end refuses is part of history", func(t *testing.T) {
		for what, expected := range map[string]string{
			"swallowed": "25P02 current transaction is aborted, commands ignored until end of transaction block",
			"too large": `RM011 payload "result" is too large`, "ended": "RM007 tx is closed", "panic": "RM007 panic: at the disco",
			"must": "22012 ERROR: division by zero (SQLSTATE 22012)",
		} {
			f.runs = 0
			result, err := f.through("go_transaction_refused", what)
			if text := fmt.Sprint(result); err != nil || f.runs != 1 || !strings.HasPrefix(text, expected) || !strings.HasSuffix(text, ", went on") {
				t.Errorf("%s: %v, %v, %d runs", what, result, err, f.runs)
			}
		}
	})
	t.Run("nothing is called inside a transaction", func(t *testing.T) {
		for _, what := range []string{"UUID", "Now", "Call", "Sleep", "Receive", "SetValue", "Progress", "Patched", "All", "Transaction"} {
			want(t, "go_inside", what, what+"() cannot be called inside Transaction() after")
		}
	})
	t.Run("who published, and which ids", func(t *testing.T) {
		var me string
		if err := f.Pool.QueryRow(ctx, "select current_user::text").Scan(&me); err != nil {
			t.Fatal(err)
		}
		want(t, "go_messages", nil, fmt.Sprintf("0 1 %s %s true true true true 3 true", me, me))
	})
	t.Run("nothing to wait for", func(t *testing.T) { want(t, "go_nothing", nil, "Any needs at least one handle") })
}

func TestFaultsOfClients(t *testing.T) {
	f := newFaults(t)
	defer f.Close()
	ctx := context.Background()
	sql := func(statement string) {
		t.Helper()
		if _, err := f.Pool.Exec(ctx, statement); err != nil {
			t.Fatal(err)
		}
	}
	start := func(app *App, name string, input any) Instance[any] {
		t.Helper()
		instance, err := Workflow[any, any]{name, app}.Start(ctx, input, StartOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return instance
	}
	t.Run("a refusal keeps its own hint", func(t *testing.T) {
		sql("create or replace function no_table(i jsonb) returns jsonb language sql as 'select i'")
		sql("create role go_definer")
		sql("select romancy.grant_usage('go_definer')")
		other, err := New(ctx, os.Getenv("ROMANCY_TEST_URL"), Options{Namespace: "go_definer"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = other.Pool.Exec(ctx, "select romancy.define_workflow('no_table', 'no_table(jsonb)')"); err != nil {
			t.Fatal(err)
		}
		_, err = Workflow[any, any]{"no_table", other}.Start(ctx, nil, StartOptions{})
		var e *Error
		if !errors.As(err, &e) || e.SQLState != "42501" || !strings.Contains(e.Hint, "SET ROLE") || strings.Contains(e.Message, "may not use") {
			t.Errorf("%#v", err)
		}
		other.Close()
		sql("select romancy.revoke_usage('go_definer')")
		sql("drop role go_definer")
	})
	t.Run("an instance that failed for a missing table", func(t *testing.T) {
		sql("create or replace function no_table(i jsonb) returns jsonb language plpgsql as $$ begin return to_jsonb((select count(*) from no_such_table)); end $$")
		_, err := start(f.App, "no_table", nil).Result(ctx, time.Minute)
		var e *Error
		if !errors.As(err, &e) || e.SQLState != "42P01" || e.Message != `relation "no_such_table" does not exist` {
			t.Errorf("%#v", err)
		}
	})
	t.Run("calls that wait keep no other from its turn", func(t *testing.T) {
		if err := f.Define(ctx, f.Pool); err != nil {
			t.Fatal(err)
		}
		instance := start(f.App, "go_tidy", nil)
		ended := make(chan error, 25)
		for i := 0; i < cap(ended); i++ {
			go func() {
				_, err := instance.Result(ctx, time.Minute)
				ended <- err
			}()
		}
		// (the pool for calls that wait has 20 connections)
		for active := 0; active < 20 && len(ended) == 0; time.Sleep(50 * time.Millisecond) {
			err := f.Pool.QueryRow(ctx, "select count(*) from pg_stat_activity where state = 'active' and query like 'call romancy.await_result%'").Scan(&active)
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := instance.Status(ctx); err != nil || len(ended) > 0 {
			t.Errorf("%v, when %d calls had ended", err, len(ended))
		}
		if _, err := instance.Cancel(ctx, ""); err != nil {
			t.Error(err)
		}
		for i := 0; i < cap(ended); i++ {
			if err := <-ended; !errors.Is(err, ErrCancelled) {
				t.Errorf("%#v", err)
			}
		}
	})
	t.Run("a task that this worker does not have is left to another", func(t *testing.T) {
		other, err := New(ctx, os.Getenv("ROMANCY_TEST_URL"), Options{Queue: "go_faults"})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		NewActivity(other, "go_elsewhere", func(context.Context, any) (string, error) { return "done elsewhere", nil })
		NewWorkflow(other, "go_left", func(w *W, _ any) (string, error) { return Call[string](w, "go_elsewhere", nil) })
		if err := other.Define(ctx, other.Pool); err != nil {
			t.Fatal(err)
		}
		left := start(other, "go_left", nil)
		program := exec.Command(os.Args[0], "-test.run", "^$")
		program.Env = append(os.Environ(), "ROMANCY_TEST_WORKER=faults")
		program.Stderr = os.Stderr
		if err := program.Start(); err != nil {
			t.Fatal(err)
		}
		tidy := start(f.App, "go_tidy", nil)
		if err := tidy.Signal(ctx, "go", nil, nil); err != nil {
			t.Error(err)
		}
		if result, err := tidy.Result(ctx, time.Minute); err != nil || result != "tidy" {
			t.Error(result, err)
		}
		stop, done := context.WithCancel(ctx)
		ended := make(chan error)
		go func() { ended <- other.Run(stop, WorkerOptions{Lease: 3 * time.Second}) }()
		if result, err := left.Result(ctx, time.Minute); err != nil || result != "done elsewhere" {
			t.Error(result, err)
		}
		done()
		_ = program.Process.Signal(syscall.SIGTERM)
		if err := errors.Join(<-ended, program.Wait()); err != nil {
			t.Error(err)
		}
	})
	// worker runs f's worker while do does
	worker := func(t *testing.T, o WorkerOptions, do func()) {
		t.Helper()
		if err := f.Define(ctx, f.Pool); err != nil {
			t.Fatal(err)
		}
		stop, done := context.WithCancel(ctx)
		ended := make(chan error)
		go func() { ended <- f.Run(stop, o) }()
		do()
		done()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Run("a worker lives on whatever an instance gives it", func(t *testing.T) {
		worker(t, WorkerOptions{Concurrency: 2, Lease: 3 * time.Second}, func() {
			for _, odd := range [][2]string{{"go_holds", "labels"}, {"go_holds", "raised"}, {"go_holds", "no error"}, {"go_calls_odd", "no error"}} {
				_, err := start(f.App, odd[0], odd[1]).Result(ctx, time.Minute)
				var e *Error
				if !errors.As(err, &e) || e.SQLState != "RM007" {
					t.Errorf("%v: %#v", odd, err)
				}
			}
			if result, err := start(f.App, "go_nothing", nil).Result(ctx, time.Minute); err != nil || result == nil {
				t.Error(result, err)
			}
		})
	})
	t.Run("what COMMIT refuses is part of history", func(t *testing.T) {
		sql("drop table if exists go_pairs")
		sql("create table go_pairs (id int primary key, other int references go_pairs deferrable initially deferred)")
		f.runs = 0
		worker(t, WorkerOptions{Concurrency: 2, Lease: 3 * time.Second}, func() {
			instance := start(f.App, "go_transaction_refused", "deferred")
			for until := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
				if status, err := instance.Status(ctx); err != nil || status == "waiting_for_message" || time.Now().After(until) {
					break
				}
			}
			f.forget() // as in another process
			if err := instance.Signal(ctx, "go", nil, nil); err != nil {
				t.Error(err)
			}
			result, err := instance.Result(ctx, time.Minute)
			if text := fmt.Sprint(result); err != nil || f.runs != 1 || !strings.HasPrefix(text, "23503 ") || !strings.HasSuffix(text, ", went on") {
				t.Errorf("%v, %v, %d runs", result, err, f.runs)
			}
		})
		sql("drop table go_pairs")
	})
	t.Run("tasks that are left to others take no places", func(t *testing.T) {
		other, err := New(ctx, os.Getenv("ROMANCY_TEST_URL"), Options{Queue: "go_faults"})
		if err != nil {
			t.Fatal(err)
		}
		defer other.Close()
		NewActivity(other, "go_of_others", func(context.Context, any) (any, error) { return nil, nil })
		if err := other.Define(ctx, other.Pool); err != nil {
			t.Fatal(err)
		}
		sql("select romancy.define_workflow('go_no_workflow', queue => 'go_faults')")
		sql("select romancy.start_workflows('go_no_workflow', array_fill('1'::jsonb, array[1000]), priority => 9)")
		turns := "select count(*) from romancy.t_task where activity = 'go_no_workflow' and state = 0"
		all := func() {
			t.Helper()
			for n := 0; n < 1000; time.Sleep(20 * time.Millisecond) {
				if err := f.Pool.QueryRow(ctx, turns).Scan(&n); err != nil {
					t.Fatal(err)
				}
			}
		}
		all()
		worker(t, WorkerOptions{Concurrency: 1, Lease: 30 * time.Second}, func() {
			instance := start(f.App, "go_many_left", nil)
			if result, err := instance.Result(ctx, 2*time.Minute); err != nil || result != "in its turn" {
				t.Error(result, err)
			}
			if _, err := instance.Cancel(ctx, ""); err != nil {
				t.Error(err)
			}
		})
		all() // of what it was given all is given back
		sql("select count(romancy.cancel_workflow(instance_id)) from romancy.instances where workflow = 'go_no_workflow' and status = 'running'")
	})
}
