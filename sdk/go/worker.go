package romancy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	mathrand "math/rand"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// WorkerOptions of Run.
type WorkerOptions struct {
	Concurrency int           // tasks at a time; default 10
	Prefetch    int           // how many more it takes at once, of each of the two, to wait here for a place; they are given back when it stops
	Lease       time.Duration // renewed at a third; default a minute
	Log         *slog.Logger  // default slog.Default()
}

type worker struct {
	app    *App
	o      WorkerOptions
	name   string
	places chan struct{}
	busy   sync.WaitGroup
	mu     sync.Mutex
	leases map[string]string // token -> the statement that renews it
	// names that it was given and does not have, for each kind of task; of its poll's goroutine
	unknown map[string]map[string]bool
}

// Run works until ctx is done, or SIGTERM or SIGINT: it takes workflows and activities of the queue. Work under way is finished.
func (a *App) Run(ctx context.Context, o WorkerOptions) error {
	if o.Concurrency < 1 {
		o.Concurrency = 10
	}
	if o.Lease <= 0 {
		o.Lease = time.Minute
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if err := a.Define(ctx, a.Pool); err != nil {
		return err
	}
	ctx, done := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer done()
	host, _ := os.Hostname()
	w := &worker{app: a, o: o, name: fmt.Sprintf("%s/%d", host, os.Getpid()), places: make(chan struct{}, o.Concurrency),
		leases: map[string]string{}, unknown: map[string]map[string]bool{"activities": {}, "workflows": {}}}
	renewal, stopRenewal := context.WithCancel(context.Background())
	defer stopRenewal()
	go w.renew(renewal)
	var polls sync.WaitGroup
	for _, kind := range []string{"activities", "workflows"} {
		if (kind == "activities" && len(a.activities) == 0) || (kind == "workflows" && len(a.workflows) == 0) {
			continue
		}
		polls.Add(1)
		go func(kind string) {
			defer polls.Done()
			w.poll(ctx, kind)
		}(kind)
	}
	polls.Wait()
	w.busy.Wait()
	return nil
}

func (w *worker) poll(ctx context.Context, kind string) {
	pause := 100 * time.Millisecond
	for ctx.Err() == nil {
		err := w.pollOnce(ctx, kind)
		if err == nil || ctx.Err() != nil {
			pause = 100 * time.Millisecond
			continue
		}
		w.o.Log.Warn("romancy: poll", "kind", kind, "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(float64(pause) * (0.5 + mathrand.Float64()))):
		}
		pause = min(pause*2, 30*time.Second)
	}
}

func (w *worker) pollOnce(ctx context.Context, kind string) error {
	// it begins when a place is free, and holds none: the other kind of task may need it
	if !w.place(ctx) {
		return nil
	}
	<-w.places
	sql, renewal := "call romancy.poll_activities($1::text, $2::text, $4::int, $3::interval, '20 s', null, $5::text[])", "select romancy.heartbeat_activity($1::text, null, $2::interval)"
	if kind == "workflows" {
		sql, renewal = "call romancy.poll_workflows($1::text, $2::text, $4::int, $3::interval, '20 s', null, $5::text[])", "select romancy.extend_lease($1::text, $2::interval)"
	}
	unknown := []string{}
	for name := range w.unknown[kind] {
		if !w.has(kind, name) {
			unknown = append(unknown, name)
		}
	}
	raw, err := w.wait(ctx, sql, unknown)
	var tasks []json.RawMessage
	var heads []activityTask
	if err == nil {
		err = json.Unmarshal([]byte(raw), &tasks)
	}
	if err == nil {
		err = json.Unmarshal([]byte(raw), &heads)
	}
	if err != nil || len(tasks) == 0 {
		return err
	}
	w.mu.Lock()
	for _, head := range heads {
		w.leases[head.Token] = renewal
	}
	w.mu.Unlock()
	for n, task := range tasks {
		if name := heads[n].Activity + heads[n].Workflow; !w.has(kind, name) {
			w.leave(kind, name, heads[n])
			continue
		}
		if !w.place(ctx) {
			w.release(heads[n:])
			return nil
		}
		w.busy.Add(1)
		go func(task json.RawMessage, head activityTask) {
			defer w.busy.Done()
			defer func() { <-w.places }()
			w.serve(kind, task, head)
		}(task, heads[n])
	}
	return nil
}

// place waits for a place and takes it; false: the worker stops.
func (w *worker) place(ctx context.Context) bool {
	select {
	case w.places <- struct{}{}:
		if ctx.Err() == nil {
			return true
		}
		<-w.places
		return false
	case <-ctx.Done():
		return false
	}
}

// release gives back what was not begun; others can take it at once.
func (w *worker) release(heads []activityTask) {
	for _, head := range heads {
		w.drop(head.Token)
		if err := w.tell(nil, "select romancy.release_activity($1::text)", head.Token); err != nil {
			w.o.Log.Warn("romancy: a task could not be given back", "error", err) // its lease ends, and another takes it
		}
	}
}

// wait makes a poll and gives its tasks. When the worker stops the server is told to cancel it, until it has ended: a connection that
// is just closed goes on waiting there, and takes a task that no program serves.
func (w *worker) wait(ctx context.Context, sql string, unknown []string) (string, error) {
	conn, err := w.app.Pool.Acquire(ctx)
	if err != nil {
		return "[]", err
	}
	ended, cancelled := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(cancelled)
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		for {
			limited, done := context.WithTimeout(context.Background(), 5*time.Second)
			_ = conn.Conn().PgConn().CancelRequest(limited)
			done()
			select {
			case <-ended:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	raw := "[]"
	err = conn.QueryRow(context.Background(), sql, w.app.options.Queue, w.name, interval(w.o.Lease), 1+w.o.Prefetch, unknown).Scan(&raw)
	close(ended)
	<-cancelled
	if ctx.Err() != nil {
		// a cancel request that comes late hits no statement
		_ = conn.Hijack().Close(context.Background())
	} else {
		conn.Release()
	}
	return raw, err
}

// has: does the program have the activity, or the workflow?
func (w *worker) has(kind, name string) bool {
	_, activity := w.app.activities[name]
	_, workflow := w.app.workflows[name]
	return kind == "activities" && activity || kind == "workflows" && workflow
}

// leave gives back what this worker does not have, no attempt counted: another one of the queue may have it. This one asks for no more of
// that name.
func (w *worker) leave(kind, name string, head activityTask) {
	if !w.unknown[kind][name] {
		what := map[string]string{"activities": "activity", "workflows": "workflow"}[kind]
		w.o.Log.Warn("romancy: this worker does not have it, and leaves it to others", what, name)
	}
	w.unknown[kind][name] = true
	w.release([]activityTask{head})
}

func (w *worker) serve(kind string, raw json.RawMessage, head activityTask) {
	ctx := context.Background()
	defer w.drop(head.Token)
	var err error
	if kind == "activities" {
		err = w.app.serveActivity(ctx, w.tell, head)
	} else {
		err = w.serveWorkflow(ctx, raw)
	}
	if err != nil && !errors.Is(err, ErrLeaseLost) {
		w.o.Log.Warn("romancy: a task could not be served", "error", err) // its lease ends, and another takes it
	}
}

// drop ends the renewal of a lease.
func (w *worker) drop(token string) {
	w.mu.Lock()
	delete(w.leases, token)
	w.mu.Unlock()
}

// ask runs a statement, and scans its row where there is something to scan into.
func ask(ctx context.Context, q Querier, result any, sql string, args ...any) error {
	if result == nil {
		return execute(ctx, q, sql, args...)
	}
	return fromDatabase(q.QueryRow(ctx, sql, args...).Scan(result))
}

// tell runs a statement that may be repeated; over a new connection where the one at hand has broken.
func (w *worker) tell(result any, sql string, args ...any) error {
	for pause := 50 * time.Millisecond; ; pause *= 8 {
		err := ask(context.Background(), w.app.Pool, result, sql, args...)
		if err == nil || !isPassing(err) || errors.Is(err, ErrLeaseLost) || pause > 20*time.Second {
			return err
		}
		w.o.Log.Warn("romancy: connection", "error", err)
		time.Sleep(time.Duration(float64(pause) * (0.5 + mathrand.Float64())))
	}
}

func (w *worker) serveWorkflow(ctx context.Context, raw json.RawMessage) error {
	var task workflowTask
	if err := json.Unmarshal(raw, &task); err != nil {
		return err
	}
	err := w.app.stepWorkflow(ctx, w.app.Pool, task)
	if err == nil || errors.Is(err, ErrLeaseLost) {
		return err
	}
	w.o.Log.Warn("romancy: a workflow is given back", "error", err)
	// the connection has broken: others can have it soon; had the server got what it was told, nothing happens
	w.drop(task.Token)
	return w.tell(nil, "select romancy.extend_lease($1::text, '500 ms'::interval)", task.Token)
}

func (w *worker) renew(ctx context.Context) {
	tick := time.NewTicker(w.o.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		w.mu.Lock()
		leases := make(map[string]string, len(w.leases))
		for token, sql := range w.leases {
			leases[token] = sql
		}
		w.mu.Unlock()
		for token, sql := range leases {
			// lost, or the connection is: the next call of the task says so
			_ = execute(ctx, w.app.Pool, sql, token, interval(w.o.Lease))
		}
	}
}
