// Package romancy is a library for durable workflows in PostgreSQL: workflows and activities in Go, with the
// extension romancy as the only server.
package romancy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Querier is a connection, a pool, or a transaction of the caller's.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Options of an App.
type Options struct {
	Queue     string // from which its workers take; default "default"
	Namespace string // of the names, where the role has several
}

type activityOptions struct {
	retry                                           map[string]any
	compensation, rateLimit                         string
	maxConcurrency                                  int
	startToClose, scheduleToStart, heartbeatTimeout time.Duration
}

// Option of an activity.
type Option func(*activityOptions)

// Retry sets keys of the retry policy, as define_activity takes them.
func Retry(policy map[string]any) Option { return func(o *activityOptions) { o.retry = policy } }

// Compensation names the activity that undoes this one.
func Compensation(activity string) Option {
	return func(o *activityOptions) { o.compensation = activity }
}

// StartToClose limits an attempt.
func StartToClose(d time.Duration) Option { return func(o *activityOptions) { o.startToClose = d } }

// ScheduleToStart limits the time until the first attempt begins.
func ScheduleToStart(d time.Duration) Option {
	return func(o *activityOptions) { o.scheduleToStart = d }
}

// Heartbeat limits the time between two renewals.
func Heartbeat(d time.Duration) Option { return func(o *activityOptions) { o.heartbeatTimeout = d } }

// MaxConcurrency limits how many run at a time.
func MaxConcurrency(n int) Option { return func(o *activityOptions) { o.maxConcurrency = n } }

// RateLimit limits how many begin in a time: "100/m".
func RateLimit(limit string) Option { return func(o *activityOptions) { o.rateLimit = limit } }

type activityCode struct {
	run     func(context.Context, json.RawMessage) (any, error)
	options activityOptions
}

type workflowCode struct {
	run     func(*W) (json.RawMessage, error)
	options workflowOptions
}

type workflowOptions struct {
	executionTimeout, retention time.Duration
	onEvent                     string
}

// WorkflowOption of a workflow.
type WorkflowOption func(*workflowOptions)

// ExecutionTimeout limits the whole of an instance.
func ExecutionTimeout(d time.Duration) WorkflowOption {
	return func(o *workflowOptions) { o.executionTimeout = d }
}

// Retention is how long a finished instance is kept.
func Retention(d time.Duration) WorkflowOption { return func(o *workflowOptions) { o.retention = d } }

// OnEvent starts an instance for each CloudEvent of a type; its input is the event's data.
func OnEvent(kind string) WorkflowOption { return func(o *workflowOptions) { o.onEvent = kind } }

// App holds the workflows and activities of one program, on one queue.
type App struct {
	Pool       *pgxpool.Pool
	options    Options
	activities map[string]activityCode
	workflows  map[string]workflowCode
	mu         sync.Mutex
	kept       map[string]*W // runs that wait, by instance
	waits      *pgxpool.Pool // for calls that wait, so that they keep no other from its turn
	session    Querier       // of a test, in whose transaction client calls are made
}

// client is where a call of a client is made: in the transaction that it names, in that of a test, or by itself.
func (a *App) client(tx Querier) Querier {
	switch {
	case tx != nil:
		return tx
	case a.session != nil:
		return a.session
	}
	return a.Pool
}

// New makes an App of a connection string. Nothing is prepared, so it works behind a pool in transaction mode.
func New(ctx context.Context, conninfo string, options Options) (*App, error) {
	config, err := pgxpool.ParseConfig(conninfo)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
	if options.Namespace != "" {
		config.AfterConnect = func(ctx context.Context, conn *pgx.Conn) error {
			_, err := conn.Exec(ctx, "select set_config('romancy.namespace', $1::text, false)", options.Namespace)
			return err
		}
	}
	if config.MaxConns < 20 {
		config.MaxConns = 20
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	waits, err := pgxpool.NewWithConfig(ctx, config.Copy())
	if err != nil {
		pool.Close()
		return nil, err
	}
	if options.Queue == "" {
		options.Queue = "default"
	}
	return &App{Pool: pool, waits: waits, options: options, activities: map[string]activityCode{}, workflows: map[string]workflowCode{},
		kept: map[string]*W{}}, nil
}

// Close ends the runs that are kept and the connections.
func (a *App) Close() {
	a.forget()
	a.Pool.Close()
	a.waits.Close()
}

func (a *App) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, w := range a.kept {
		w.giveUp()
		delete(a.kept, id)
	}
}

// Activity is a function that romancy runs as an activity: in a worker, at least once, with the server's retries.
type Activity[I, O any] struct {
	Name string
}

// NewActivity makes a function an activity.
func NewActivity[I, O any](a *App, name string, f func(context.Context, I) (O, error), options ...Option) Activity[I, O] {
	code := activityCode{run: func(ctx context.Context, raw json.RawMessage) (any, error) {
		input, err := decode[I](raw)
		if err != nil {
			return nil, Fail("input", err.Error())
		}
		return f(ctx, input)
	}}
	for _, o := range options {
		o(&code.options)
	}
	a.activities[name] = code
	return Activity[I, O]{name}
}

// Call runs the activity in a workflow and gives its result.
func (x Activity[I, O]) Call(w *W, input I) (O, error) { return Call[O](w, x.Name, input) }

// Spawn schedules it in parallel.
func (x Activity[I, O]) Spawn(w *W, input I) Handle[O] { return Spawn[O](w, x.Name, input) }

// Workflow is a function that romancy runs as a workflow.
type Workflow[I, O any] struct {
	Name string
	app  *App
}

// NewWorkflow makes a function a workflow: replayed, so it does nothing but by activities.
func NewWorkflow[I, O any](a *App, name string, f func(*W, I) (O, error), options ...WorkflowOption) Workflow[I, O] {
	code := workflowCode{run: func(w *W) (json.RawMessage, error) {
		input, err := decode[I](w.task.Input)
		if err != nil {
			return nil, fmt.Errorf("input: %w", err)
		}
		output, err := f(w, input)
		if err != nil {
			return nil, err
		}
		return encode(output), nil
	}}
	for _, o := range options {
		o(&code.options)
	}
	a.workflows[name] = code
	return Workflow[I, O]{name, a}
}

// StartOptions of an instance.
type StartOptions struct {
	Key      string // idempotency key
	ID       string // of the instance; default: a new one
	Labels   map[string]any
	Priority int
	At       time.Time
	Tx       Querier // starts it in this transaction, beside the caller's own data
}

// Instance is a workflow instance.
type Instance[O any] struct {
	ID  string
	app *App
}

// Start starts an instance.
func (x Workflow[I, O]) Start(ctx context.Context, input I, o StartOptions) (Instance[O], error) {
	q := x.app.client(o.Tx)
	var key, id, at, labels any
	if o.Key != "" {
		key = o.Key
	}
	if o.ID != "" {
		id = o.ID
	}
	if !o.At.IsZero() {
		at = o.At
	}
	if o.Labels != nil {
		raw, err := json.Marshal(o.Labels)
		if err != nil {
			return Instance[O]{}, err
		}
		labels = string(raw)
	}
	raw, err := json.Marshal(input)
	if err != nil {
		return Instance[O]{}, err
	}
	i := Instance[O]{app: x.app}
	err = q.QueryRow(ctx, "select romancy.start_workflow($1::text, $2::jsonb, idempotency_key => $3::text, start_at => $4::timestamptz,"+
		" priority => $5::int, labels => $6::jsonb, instance_id => $7::uuid)::text", x.Name, string(raw), key, at, o.Priority, labels, id).Scan(&i.ID)
	return i, fromDatabase(err)
}

// Result waits for the end and gives the output, or the instance's error; past the timeout (0: none) ErrTimeout.
func (i Instance[O]) Result(ctx context.Context, timeout time.Duration) (O, error) {
	var raw *string
	var limit any
	if timeout > 0 {
		limit = interval(timeout)
	}
	var q Querier = i.app.waits
	if i.app.session != nil {
		q = i.app.session
	}
	err := q.QueryRow(ctx, "call romancy.await_result($1::uuid, $2::interval, null)", i.ID, limit).Scan(&raw)
	if err != nil || raw == nil {
		var zero O
		return zero, fromInstance(err)
	}
	return decode[O](json.RawMessage(*raw))
}

// Signal sends a message that Receive of the instance gets; kept until it does.
func (i Instance[O]) Signal(ctx context.Context, channel string, data any, tx Querier) error {
	q := i.app.client(tx)
	raw, err := json.Marshal(data)
	if err != nil {
		return err
	}
	var id int64
	return fromDatabase(q.QueryRow(ctx, "select romancy.send_to($1::uuid, $2::text, $3::jsonb)", i.ID, channel, string(raw)).Scan(&id))
}

// Cancel cancels the instance; false: it was not live.
func (i Instance[O]) Cancel(ctx context.Context, reason string) (bool, error) {
	var done bool
	err := i.app.client(nil).QueryRow(ctx, "select romancy.cancel_workflow($1::uuid, $2::text)", i.ID, reason).Scan(&done)
	return done, fromDatabase(err)
}

// steer calls one of the functions that take an instance and say whether they did something.
func (i Instance[O]) steer(ctx context.Context, sql string) (bool, error) {
	var done bool
	err := i.app.client(nil).QueryRow(ctx, sql, i.ID).Scan(&done)
	return done, fromDatabase(err)
}

// Pause pauses the instance; false: it was not in a state for it.
func (i Instance[O]) Pause(ctx context.Context) (bool, error) {
	return i.steer(ctx, "select romancy.pause_workflow($1::uuid)")
}

// Resume takes Pause back, or tries again what the server paused.
func (i Instance[O]) Resume(ctx context.Context) (bool, error) {
	return i.steer(ctx, "select romancy.resume_workflow($1::uuid)")
}

// Retry runs a failed instance again from its failed step.
func (i Instance[O]) Retry(ctx context.Context) (bool, error) {
	return i.steer(ctx, "select romancy.retry_workflow($1::uuid)")
}

// Progress is how far an instance is. Numbers that are not known are 0.
type Progress struct {
	Total, Completed, Failed, Running int64
	Percent                           float64
	Note                              string
}

// Progress says how far the instance is.
func (i Instance[O]) Progress(ctx context.Context) (Progress, error) {
	var raw string
	var p Progress
	err := i.app.client(nil).QueryRow(ctx, "select to_jsonb(p)::text from romancy.get_progress($1::uuid) p", i.ID).Scan(&raw)
	if err != nil {
		return p, fromDatabase(err)
	}
	return p, json.Unmarshal([]byte(raw), &p)
}

// Value decodes into result what the workflow last put under key with SetValue; false: nothing.
func (i Instance[O]) Value(ctx context.Context, key string, result any) (bool, error) {
	var raw *string
	err := i.app.client(nil).QueryRow(ctx, "select romancy.get_value($1::uuid, $2::text)::text", i.ID, key).Scan(&raw)
	if err != nil || raw == nil {
		return false, fromDatabase(err)
	}
	return true, json.Unmarshal([]byte(*raw), result)
}

// Status is the instance's status.
func (i Instance[O]) Status(ctx context.Context) (string, error) {
	var status string
	err := i.app.client(nil).QueryRow(ctx, "select status::text from romancy.instances where instance_id = $1::uuid", i.ID).Scan(&status)
	return status, fromDatabase(err)
}

// RunCanvas starts a signature of Task, Chain, Group, Chord as an instance.
func RunCanvas[O any](ctx context.Context, a *App, signature Signature, input any, tx Querier) (Instance[O], error) {
	q := a.client(tx)
	i := Instance[O]{app: a}
	document, err := json.Marshal(signature)
	if err != nil {
		return i, err
	}
	raw, err := json.Marshal(input)
	if err != nil {
		return i, err
	}
	err = q.QueryRow(ctx, "select romancy.run_canvas($1::jsonb, $2::jsonb)::text", string(document), string(raw)).Scan(&i.ID)
	return i, fromDatabase(err)
}

func optional(d time.Duration) any {
	if d == 0 {
		return nil
	}
	return interval(d)
}

// Define tells the database what this program defines. A worker does it when it starts. It is an error where the server does not speak this
// library's protocol.
func (a *App) Define(ctx context.Context, q Querier) error {
	if err := checkProtocol(ctx, q); err != nil {
		return err
	}
	var ignored any
	for name, code := range a.activities {
		o := code.options
		var retry, compensation, most, rate any
		if o.maxConcurrency > 0 {
			most = o.maxConcurrency
		}
		if o.rateLimit != "" {
			rate = o.rateLimit
		}
		if o.retry != nil {
			raw, err := json.Marshal(o.retry)
			if err != nil {
				return err
			}
			retry = string(raw)
		}
		if o.compensation != "" {
			compensation = o.compensation
		}
		if err := q.QueryRow(ctx, "select romancy.define_activity($1::text, queue => $2::text, retry => $3::jsonb,"+
			" compensation => $4::text, start_to_close_timeout => $5::interval, schedule_to_start_timeout => $6::interval,"+
			" heartbeat_timeout => $7::interval, max_concurrency => $8::int, rate_limit => $9::text)::text",
			name, a.options.Queue, retry, compensation, optional(o.startToClose), optional(o.scheduleToStart),
			optional(o.heartbeatTimeout), most, rate).Scan(&ignored); err != nil {
			return fromDatabase(err)
		}
	}
	for name, code := range a.workflows {
		var event any
		if code.options.onEvent != "" {
			event = code.options.onEvent
		}
		if err := q.QueryRow(ctx, "select romancy.define_workflow($1::text, queue => $2::text, execution_timeout => $3::interval,"+
			" retention => $4::interval, on_event => $5::text)::text", name, a.options.Queue, optional(code.options.executionTimeout),
			optional(code.options.retention), event).Scan(&ignored); err != nil {
			return fromDatabase(err)
		}
	}
	return nil
}

// take gives the kept run of an instance, if history has nothing that it has not seen in this order.
func (a *App) take(task *workflowTask) *W {
	a.mu.Lock()
	w := a.kept[task.InstanceID]
	delete(a.kept, task.InstanceID)
	a.mu.Unlock()
	if w == nil {
		return nil
	}
	if len(task.History) < 1000 && w.lastSeq == 0 {
		return w
	}
	for i := range task.History {
		if len(task.History) < 1000 && task.History[i].Seq == w.lastSeq {
			return w
		}
	}
	w.giveUp()
	return nil
}

// stepWorkflow runs a workflow's code as far as it comes and tells the server.
func (a *App) stepWorkflow(ctx context.Context, q Querier, task workflowTask) error {
	var begun *W
	return safely(func() error { return a.runWorkflow(ctx, q, task, &begun) }, func(err accident) error {
		if begun != nil {
			begun.giveUp()
		}
		return execute(ctx, q, "select romancy.fail_workflow($1::text, $2::text, 'error', null)", task.Token, messageOf(err))
	})
}

func (a *App) runWorkflow(ctx context.Context, q Querier, task workflowTask, begun **W) error {
	w := a.take(&task)
	fresh := w == nil
	if fresh {
		w = newW(task)
	} else {
		*begun = w
	}
	w.task, w.q = task, q
	w.absorb(task.History)
	for page := len(task.History); page >= 1000; {
		rows, err := q.Query(ctx, "select seq, event_type, activity_id, data::text from romancy.read_history($1::text, $2::bigint)", task.Token, w.lastSeq)
		if err != nil {
			w.drop(fresh)
			return err
		}
		events, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (event, error) {
			var e event
			var data *string
			err := row.Scan(&e.Seq, &e.EventType, &e.ActivityID, &data)
			if data != nil {
				e.Data = json.RawMessage(*data)
			}
			return e, err
		})
		if err != nil {
			w.drop(fresh)
			return err
		}
		w.absorb(events)
		page = len(events)
	}
	var waits *wait
	if fresh {
		*begun = w
		waits = w.start(a.workflows[task.Workflow].run)
	} else {
		waits = w.goOn()
	}
	if waits != nil && waits.broken != nil {
		return waits.broken
	}
	if waits == nil {
		return refused(ctx, q, w, a.end(ctx, q, w))
	}
	if err := a.suspend(ctx, q, w, waits.document); err != nil {
		w.giveUp()
		return refused(ctx, q, w, err)
	}
	a.mu.Lock()
	a.kept[task.InstanceID] = w
	var given *W
	if len(a.kept) > 10000 {
		for id := range a.kept {
			given = a.kept[id]
			delete(a.kept, id)
			break
		}
	}
	a.mu.Unlock()
	if given != nil {
		given.giveUp()
	}
	return nil
}

// end tells the server that the code has ended.
func (a *App) end(ctx context.Context, q Querier, w *W) error {
	switch {
	case len(w.commands) > 0 && !w.isNonDeterminism():
		// commands that nothing waits for are carried out first; the code is run again and ends again
		return a.suspend(ctx, q, w, object{"all": []string{}})
	case w.err != nil:
		return fail(ctx, q, w, w.err)
	case len(w.records) > 0:
		return execute(ctx, q, "select romancy.record($1::text, $2::jsonb), romancy.complete_workflow($1::text, $3::jsonb)", w.task.Token,
			string(encode(w.records)), string(w.output))
	}
	return execute(ctx, q, "select romancy.complete_workflow($1::text, $2::jsonb)", w.task.Token, string(w.output))
}

// fail ends the instance as failed, after what was done; RM003 pauses it.
func fail(ctx context.Context, q Querier, w *W, err error) error {
	refusal := tellFailure(ctx, q, w, err)
	if refusal == nil || isPassing(refusal) {
		return refusal
	}
	// what was done, or the detail, is what no document can hold, or too large
	return execute(ctx, q, "select romancy.fail_workflow($1::text, $2::text, $3::text, null)", w.task.Token, short(messageOf(err), 1000), "error")
}

func tellFailure(ctx context.Context, q Querier, w *W, err error) error {
	if len(w.records) > 0 && !errors.Is(err, ErrNonDeterminism) {
		return execute(ctx, q, "select romancy.record($1::text, $5::jsonb), romancy.fail_workflow($1::text, $2::text, $3::text, $4::jsonb)",
			w.task.Token, messageOf(err), codeOf(err), detailOf(err), string(encode(w.records)))
	}
	return execute(ctx, q, "select romancy.fail_workflow($1::text, $2::text, $3::text, $4::jsonb)", w.task.Token,
		messageOf(err), codeOf(err), detailOf(err))
}

// refused: what the server does not take (a payload that is too large, say) is the workflow's error.
func refused(ctx context.Context, q Querier, w *W, err error) error {
	var e *Error
	if err == nil || isPassing(err) || !errors.As(err, &e) {
		return err
	}
	w.records = nil
	return fail(ctx, q, w, e)
}

func (a *App) suspend(ctx context.Context, q Querier, w *W, document any) error {
	var waitFor any
	if document != nil {
		waitFor = string(encode(document))
	}
	commands := w.commands
	if commands == nil {
		commands = []object{}
	}
	var err error
	if len(w.records) > 0 {
		err = execute(ctx, q, "select romancy.record($1::text, $2::jsonb), romancy.suspend($1::text, $3::jsonb, $4::jsonb)", w.task.Token,
			string(encode(w.records)), string(encode(commands)), waitFor)
	} else {
		err = execute(ctx, q, "select romancy.suspend($1::text, $2::jsonb, $3::jsonb)", w.task.Token, string(encode(commands)), waitFor)
	}
	if err == nil {
		w.records, w.commands = nil, nil
	}
	return err
}

func execute(ctx context.Context, q Querier, sql string, args ...any) error {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return fromDatabase(err)
	}
	for rows.Next() {
	}
	rows.Close()
	return fromDatabase(rows.Err())
}
