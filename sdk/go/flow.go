package romancy

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	mathrand "math/rand"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	activityKinds = "ActivityScheduled ActivityCompleted ActivityFailed"
	childKinds    = "ChildWorkflowScheduled ChildWorkflowCompleted ChildWorkflowFailed"
	timerKinds    = "TimerScheduled TimerExpired"
	receiveKinds  = "ReceiveScheduled ChannelMessageReceived MessageTimeout"
)

func encode(value any) json.RawMessage {
	raw, err := json.Marshal(value)
	if err != nil {
		panic(stop{fmt.Errorf("input: %w", err)})
	}
	return raw
}

func decode[T any](raw json.RawMessage) (T, error) {
	var value T
	if len(raw) == 0 || string(raw) == "null" {
		return value, nil
	}
	err := json.Unmarshal(raw, &value)
	return value, err
}

func interval(d time.Duration) string { return fmt.Sprintf("%d microseconds", d.Microseconds()) }

// Handle is a step that runs in parallel: await it, give it to All or to Any.
type Handle[T any] struct{ step string }

func (h Handle[T]) id() string { return h.step }

// Waitable is any Handle.
type Waitable interface{ id() string }

// CallOption of one call.
type CallOption func(step *string, command object)

// ActivityID gives the step's id, in place of name:n.
func ActivityID(id string) CallOption { return func(step *string, _ object) { *step = id } }

// RetryPolicy replaces keys of the activity's retry policy for one call.
func RetryPolicy(policy map[string]any) CallOption {
	return func(_ *string, command object) { command["retry"] = policy }
}

// Call runs an activity by its name: one in the database, of another language, or of a queue.
func Call[O any](w *W, name string, input any, options ...CallOption) (O, error) {
	w.outside("Call")
	h := Spawn[O](w, name, input, options...)
	return finished[O](w.blocking(h.step))
}

// Spawn schedules an activity in parallel.
func Spawn[O any](w *W, name string, input any, options ...CallOption) Handle[O] {
	w.outside("Spawn")
	raw := encode(input)
	command := object{"op": "activity", "name": name, "input": raw}
	step := w.given(name, command, options)
	w.command(step, activityKinds, name, raw, command)
	return Handle[O]{step}
}

// Map runs an activity for each input, at most most at a time (0: all at once), and gives their results in order. When some fail the others
// run on; then the first error in order is given.
func Map[O, I any](w *W, name string, inputs []I, most int) ([]O, error) {
	w.outside("Map")
	handles := make([]Handle[O], 0, len(inputs))
	pending := func() []string {
		var ids []string
		for _, h := range handles {
			if w.outcome(h.step) == nil {
				ids = append(ids, h.step)
			}
		}
		return ids
	}
	for _, input := range inputs {
		// (replay schedules what was scheduled)
		for most > 0 && w.unused() == "" {
			ids := pending()
			if len(ids) < most {
				break
			}
			w.suspend(object{"any": ids})
		}
		handles = append(handles, Spawn[O](w, name, input))
	}
	return All(w, handles)
}

// OnParentClose of a child: "cancel" or "abandon".
func OnParentClose(policy string) CallOption {
	return func(_ *string, command object) { command["on_parent_close"] = policy }
}

// Version of the workflow that is started.
func Version(n int) CallOption { return func(_ *string, command object) { command["version"] = n } }

// Priority of the workflow that is started.
func Priority(n int) CallOption { return func(_ *string, command object) { command["priority"] = n } }

// Labels of the workflow that is started.
func Labels(labels map[string]any) CallOption {
	return func(_ *string, command object) { command["labels"] = labels }
}

// TimeLimit of the workflow that is started: its execution_timeout.
func TimeLimit(d time.Duration) CallOption {
	return func(_ *string, command object) { command["execution_timeout"] = interval(d) }
}

// NewID gives the id of an instance that StartWorkflow starts.
func NewID(id string) CallOption {
	return func(_ *string, command object) { command["instance_id"] = id }
}

// StartAt has an instance that StartWorkflow starts begin later.
func StartAt(at time.Time) CallOption {
	return func(_ *string, command object) { command["start_at"] = at.UTC().Format(time.RFC3339Nano) }
}

// Metadata of a message.
func Metadata(value any) CallOption {
	return func(_ *string, command object) { command["metadata"] = encode(value) }
}

// given applies options to a command, and gives the step's id, counted where none is given.
func (w *W) given(name string, command object, options []CallOption) string {
	step := ""
	for _, o := range options {
		o(&step, command)
	}
	if step == "" {
		step = w.stepID(name)
	}
	return step
}

// Child runs another workflow and gives its result.
func Child[O any](w *W, name string, input any, options ...CallOption) (O, error) {
	w.outside("Child")
	h := SpawnChild[O](w, name, input, options...)
	return finished[O](w.blocking(h.step))
}

// SpawnChild starts another workflow beside this one.
func SpawnChild[O any](w *W, name string, input any, options ...CallOption) Handle[O] {
	w.outside("SpawnChild")
	raw := encode(input)
	command := object{"op": "child", "name": name, "input": raw}
	step := w.given(name, command, options)
	w.command(step, childKinds, name, raw, command)
	return Handle[O]{step}
}

func finished[O any](e *event) (O, error) {
	raw, err := e.value()
	if err != nil {
		var zero O
		return zero, err
	}
	return decode[O](raw)
}

// Await waits for one step and gives its result.
func Await[T any](w *W, h Handle[T]) (T, error) {
	w.outside("Await")
	for w.outcome(h.step) == nil {
		w.suspend(object{"all": []string{h.step}})
	}
	return finished[T](w.outcome(h.step))
}

// All gives the results of all, in their order, or the first error in that order.
func All[T any](w *W, handles []Handle[T]) ([]T, error) {
	w.outside("All")
	ids := make([]string, len(handles))
	for i, h := range handles {
		ids[i] = h.step
	}
	pending := func() bool {
		for _, id := range ids {
			if w.outcome(id) == nil {
				return true
			}
		}
		return false
	}
	for pending() {
		w.suspend(object{"all": ids})
	}
	results := make([]T, len(handles))
	for i, id := range ids {
		value, err := finished[T](w.outcome(id))
		if err != nil {
			return nil, err
		}
		results[i] = value
	}
	return results, nil
}

// Any gives the place of the first that ends; its result is Await's. Past the timeout (0: none) ErrTimeout. The others go on.
func Any(w *W, timeout time.Duration, handles ...Waitable) (int, error) {
	w.outside("Any")
	if len(handles) == 0 {
		return -1, errors.New("Any needs at least one handle") //nolint:staticcheck // the function's name
	}
	label := w.stepID("await_any")
	w.used[label] = true
	ids := make([]string, len(handles))
	for i, h := range handles {
		ids[i] = h.id()
	}
	document := object{"any": ids, "id": label}
	if timeout > 0 {
		document["timeout"] = interval(timeout)
	}
	for {
		if late := w.steps[label]; late != nil {
			_, err := late.value()
			return -1, err
		}
		first := -1
		for i, id := range ids {
			if e := w.outcome(id); e != nil && (first < 0 || e.Seq < w.outcome(ids[first]).Seq) {
				first = i
			}
		}
		if first >= 0 {
			return first, nil
		}
		w.suspend(document)
	}
}

// Canvas runs a signature of Task, Chain, Group, Chord and gives its result.
func Canvas[O any](w *W, signature Signature, input any) (O, error) {
	w.outside("Canvas")
	h := SpawnCanvas[O](w, signature, input)
	return finished[O](w.blocking(h.step))
}

// SpawnCanvas starts a signature in parallel.
func SpawnCanvas[O any](w *W, signature Signature, input any) Handle[O] {
	w.outside("SpawnCanvas")
	step := w.stepID("canvas")
	o := object{"op": "canvas", "signature": encode(signature)}
	if input != nil {
		o["input"] = encode(input)
	}
	w.command(step, childKinds, "canvas", nil, o)
	return Handle[O]{step}
}

// Transaction runs code in a transaction of the worker's connection, with its record: exactly once. The calls that the workflow
// has scheduled before it are carried out first. The code makes no call of w; its error, and that of COMMIT, is part of history.
func Transaction[O any](w *W, name string, code func(pgx.Tx) (O, error)) (O, error) {
	w.outside("Transaction")
	step := w.stepID(name)
	if e := w.known(step, activityKinds, name, encode(nil)); e != nil {
		return finished[O](e)
	}
	if len(w.commands) > 0 {
		w.suspend(object{"all": []string{}})
	}
	ctx := context.Background()
	tx, err := w.q.(interface {
		Begin(context.Context) (pgx.Tx, error)
	}).Begin(ctx)
	if err != nil {
		w.breakOff(err)
	}
	defer func() { _ = tx.Rollback(ctx) }()
	result, err := within(w, tx, code)
	broken := tx.Conn().IsClosed()
	var raw json.RawMessage
	if err == nil {
		raw, err = json.Marshal(result)
	}
	record := func(key string, value any) object {
		return object{"op": "activity", "id": step, "name": name, "input": nil, key: value}
	}
	if err != nil {
		var e *pgconn.PgError
		broken = broken || errors.As(err, &e) && isPassing(fromDatabase(e))
	} else {
		events := append(append([]object{}, w.records...), record("result", raw))
		err = execute(ctx, tx, "select romancy.record($1::text, $2::jsonb)", w.task.Token, string(encode(events)))
		if err == nil {
			err = fromDatabase(tx.Commit(ctx))
		}
		// (the code may have ended the transaction itself)
		broken = broken || err != nil && isPassing(err) && !errors.Is(err, pgx.ErrTxClosed) && !errors.Is(err, pgx.ErrTxCommitRollback)
	}
	if err == nil {
		w.records = nil
		return decode[O](raw)
	}
	if broken {
		// what the server did not refuse, and did not do: the workflow's code learns nothing of it
		w.breakOff(err)
	}
	// the failure is part of history, so that the code sees in every run what it saw in the first
	failure := object{"message": messageOf(err), "code": codeOf(err)}
	if detail := detailOf(err); detail != nil {
		failure["detail"] = json.RawMessage(detail.(string))
	}
	_ = tx.Rollback(ctx)
	w.records = append(w.records, record("error", failure))
	for w.steps[step] == nil {
		w.suspend(object{"all": []string{}})
	}
	return finished[O](w.steps[step])
}

// within runs the code of a Transaction; a panic is its error.
func within[O any](w *W, tx pgx.Tx, code func(pgx.Tx) (O, error)) (result O, err error) {
	w.inside = true
	defer func() {
		w.inside = false
		if r := recover(); r != nil {
			if s, ok := r.(stop); ok {
				err = s.err
			} else {
				err = fmt.Errorf("panic: %v", r)
			}
		}
	}()
	return code(tx)
}

// Request is what HTTP sends.
type Request struct {
	Method  string
	URL     string
	Body    any               // sent as JSON; nil: none
	Headers map[string]string // with secrets as {{secret:name}}
	Timeout time.Duration     // of each attempt; 0: the server's
}

// Response is the answer to a Request.
type Response[T any] struct {
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Body    T                 `json:"body"`
}

// HTTP has the server send a request, at least once with one Idempotency-Key. A status that is not 2xx is an error.
func HTTP[T any](w *W, r Request, options ...CallOption) (Response[T], error) {
	w.outside("HTTP")
	h := SpawnHTTP[T](w, r, options...)
	return finished[Response[T]](w.blocking(h.step))
}

// SpawnHTTP has the server send a request in parallel.
func SpawnHTTP[T any](w *W, r Request, options ...CallOption) Handle[Response[T]] {
	w.outside("SpawnHTTP")
	o := object{"op": "http", "method": r.Method, "url": r.URL}
	if r.Body != nil {
		o["body"] = encode(r.Body)
	}
	if r.Headers != nil {
		o["headers"] = r.Headers
	}
	if r.Timeout > 0 {
		o["timeout"] = interval(r.Timeout)
	}
	step := w.given("http", o, options)
	w.command(step, activityKinds, "", nil, o)
	if e := w.steps[step]; e != nil && e.EventType != "CallFailed" {
		w.sameRequest(step, r, e.data().Input)
	}
	return Handle[Response[T]]{step}
}

// sameRequest ends the run where history holds another request for the step.
func (w *W) sameRequest(step string, r Request, input json.RawMessage) {
	var held struct {
		Method, URL string
		Body        json.RawMessage
		Headers     map[string]string
	}
	if json.Unmarshal(input, &held) != nil {
		return
	}
	body := json.RawMessage("null")
	if r.Body != nil {
		body = encode(r.Body)
	}
	if held.Body == nil {
		held.Body = json.RawMessage("null")
	}
	// (the server keeps a URL's host in its own spelling)
	_, rest, _ := strings.Cut(r.URL, "://")
	_, path, _ := strings.Cut(rest, "/")
	if held.Method != strings.ToUpper(r.Method) || !same(held.Body, body) || !reflect.DeepEqual(held.Headers, r.Headers) || !strings.HasSuffix(held.URL, path) {
		w.differs("the program asks for %q as %s %s; history holds %s %s, or with another body or headers", step, r.Method, r.URL, held.Method, held.URL)
	}
}

// SpawnTimer gives a timer as a handle.
func (w *W) SpawnTimer(d time.Duration) Handle[struct{}] {
	w.outside("SpawnTimer")
	step := w.stepID("spawn_timer")
	w.command(step, timerKinds, "", nil, object{"op": "timer", "duration": interval(d)})
	return Handle[struct{}]{step}
}

// Sleep is durable: no process waits.
func (w *W) Sleep(d time.Duration, options ...CallOption) {
	w.outside("Sleep")
	o := object{"op": "timer", "duration": interval(d)}
	step := w.given("sleep", o, options)
	w.command(step, timerKinds, "", nil, o)
	w.blocking(step)
}

// SleepUntil is durable, too.
func (w *W) SleepUntil(until time.Time, options ...CallOption) {
	w.outside("SleepUntil")
	o := object{"op": "timer", "until": until.UTC().Format(time.RFC3339Nano)}
	step := w.given("sleep_until", o, options)
	w.command(step, timerKinds, "", nil, o)
	w.blocking(step)
}

// Message is what Receive gives.
type Message[T any] struct {
	ID       int64           `json:"id"`
	Channel  string          `json:"channel"`
	Data     T               `json:"data"`
	Binary   []byte          `json:"data_binary"` // where bytes were sent
	Metadata json.RawMessage `json:"metadata"`
	Sender   string          `json:"sender"` // the instance that sent it
	// Publisher is the role that published it
	Publisher string `json:"publisher"`
}

// Receive gives the oldest message of a channel that was sent to this instance (or published, once subscribed); past the timeout
// (0: none) ErrTimeout.
func Receive[T any](w *W, channel string, timeout time.Duration, options ...CallOption) (Message[T], error) {
	w.outside("Receive")
	o := object{"op": "receive", "channel": channel}
	if timeout > 0 {
		o["timeout"] = interval(timeout)
	}
	step := w.given("receive_"+channel, o, options)
	w.command(step, receiveKinds, "", nil, o)
	return finished[Message[T]](w.blocking(step))
}

// SpawnReceive gives the next message of a channel as a handle.
func SpawnReceive[T any](w *W, channel string) Handle[Message[T]] {
	w.outside("SpawnReceive")
	step := w.stepID("receive_" + channel)
	w.command(step, receiveKinds, "", nil, object{"op": "receive", "channel": channel})
	return Handle[Message[T]]{step}
}

// Now is the time, recorded: the same in every replay.
func (w *W) Now() time.Time {
	w.outside("Now")
	now := time.Now().UTC().Round(time.Microsecond)
	if e := w.record(w.stepID("workflow_now"), "ValueRecorded", "", object{"op": "now", "value": now.Format(time.RFC3339Nano)}); e != nil {
		raw, _ := e.value()
		recorded, err := decode[time.Time](raw)
		if err == nil {
			return recorded
		}
	}
	return now
}

// Random is a number in [0, 1), recorded.
func (w *W) Random() float64 {
	w.outside("Random")
	value := mathrand.Float64()
	if e := w.record(w.stepID("workflow_random"), "ValueRecorded", "", object{"op": "random", "value": value}); e != nil {
		raw, _ := e.value()
		value, _ = decode[float64](raw)
	}
	return value
}

// UUID is a random UUID, recorded.
func (w *W) UUID() string {
	w.outside("UUID")
	var b [16]byte
	_, _ = rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	value := fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:])
	if e := w.record(w.stepID("workflow_uuid"), "ValueRecorded", "", object{"op": "uuid", "value": value}); e != nil {
		raw, _ := e.value()
		value, _ = decode[string](raw)
	}
	return value
}

// Patched is true for instances that reach this point first under the new code.
func (w *W) Patched(change string) bool {
	w.outside("Patched")
	step := w.stepID("patched_" + change)
	if w.steps[step] != nil {
		w.used[step] = true
		return true
	}
	if w.unused() != "" {
		return false
	}
	w.used[step] = true
	w.records = append(w.records, object{"op": "patched", "id": step, "change": change})
	return true
}

// SetValue stores what others read with get_value().
func (w *W) SetValue(key string, value any) {
	w.outside("SetValue")
	w.record(w.stepID("set_value"), "ValueSet", key, object{"op": "set_value", "key": key, "value": encode(value)})
}

// SetLabels replaces the instance's labels.
func (w *W) SetLabels(labels map[string]any) {
	w.outside("SetLabels")
	w.record(w.stepID("set_labels"), "LabelsSet", "", object{"op": "set_labels", "labels": labels})
}

// Progress says how far the workflow is; total 0: unknown.
func (w *W) Progress(done, total int64, note string) {
	w.outside("Progress")
	if w.unused() != "" {
		return
	}
	o := object{"op": "progress", "done": done}
	if total > 0 {
		o["total"] = total
	}
	if note != "" {
		o["note"] = note
	}
	w.records = append(w.records, o)
}

// OnFailure registers an activity that undoes what was done, if the instance does not complete.
func (w *W) OnFailure(activity string, input any) {
	w.outside("OnFailure")
	w.record(w.stepID("register_compensation"), "CompensationRegistered", activity,
		object{"op": "register_compensation", "activity": activity, "input": encode(input)})
}

// Compensate runs now what is registered, and gives how many succeeded.
func (w *W) Compensate() (int, error) {
	w.outside("Compensate")
	step := w.stepID("compensate")
	w.command(step, "Compensated", "", nil, object{"op": "compensate"})
	return finished[int](w.blocking(step))
}

// effect schedules what the server does at once; the handle's result is what the call gives in a handler.
func effect[T any](w *W, step, kinds string, o object) Handle[T] {
	w.command(step, kinds, "", nil, o)
	return Handle[T]{step}
}

// Publish sends a message to a channel's subscribers. The handle's result is the message's id, for a workflow that wants to know it.
func (w *W) Publish(channel string, data any, options ...CallOption) Handle[int64] {
	w.outside("Publish")
	o := payload(object{"op": "publish", "channel": channel}, data)
	return effect[int64](w, w.given("publish_"+channel, o, options), "MessagePublished", o)
}

// SendTo sends a message to one instance; a handle as Publish gives it.
func (w *W) SendTo(instanceID, channel string, data any, options ...CallOption) Handle[int64] {
	w.outside("SendTo")
	o := payload(object{"op": "send_to", "instance_id": instanceID, "channel": channel}, data)
	return effect[int64](w, w.given("send_to_"+instanceID+"_"+channel, o, options), "MessageSent", o)
}

// payload adds what a message or an event carries: JSON, or bytes.
func payload(o object, data any) object {
	if b, ok := data.([]byte); ok {
		o["data_binary"] = b // encoding/json writes base64
	} else {
		o["data"] = encode(data)
	}
	return o
}

// Subscribe subscribes in mode "broadcast", "competing" or "direct".
func (w *W) Subscribe(channel, mode string) {
	w.outside("Subscribe")
	w.command(w.stepID("subscribe_"+channel), "ChannelSubscribed", "", nil, object{"op": "subscribe", "channel": channel, "mode": mode})
}

// Unsubscribe takes Subscribe back.
func (w *W) Unsubscribe(channel string) {
	w.outside("Unsubscribe")
	w.command(w.stepID("unsubscribe_"+channel), "ChannelUnsubscribed", "", nil, object{"op": "unsubscribe", "channel": channel})
}

// JoinGroup makes the instance a member of a group until it ends.
func (w *W) JoinGroup(name string) {
	w.outside("JoinGroup")
	w.command(w.stepID("join_group_"+name), "GroupJoined", "", nil, object{"op": "join_group", "name": name})
}

// LeaveGroup takes JoinGroup back.
func (w *W) LeaveGroup(name string) {
	w.outside("LeaveGroup")
	w.command(w.stepID("leave_group_"+name), "GroupLeft", "", nil, object{"op": "leave_group", "name": name})
}

// StartWorkflow starts another workflow, which is no child: it goes on by itself. key: its idempotency key, or "". Gives its id.
func (w *W) StartWorkflow(name string, input any, key string, options ...CallOption) (string, error) {
	w.outside("StartWorkflow")
	o := object{"op": "start", "name": name, "input": encode(input)}
	if key != "" {
		o["idempotency_key"] = key
	}
	step := w.given("start_workflow", o, options)
	w.command(step, "WorkflowStarted", "", nil, o)
	return finished[string](w.blocking(step))
}

// StartMany starts an instance of a workflow for each input, all in one round trip, and gives their ids, in order.
func StartMany[I any](w *W, name string, inputs []I) ([]string, error) {
	w.outside("StartMany")
	handles := make([]Handle[string], len(inputs))
	for i, input := range inputs {
		handles[i] = effect[string](w, w.stepID("start_workflow"), "WorkflowStarted", object{"op": "start", "name": name, "input": encode(input)})
	}
	return All(w, handles)
}

// CancelWorkflow cancels another instance; true if it was live.
func (w *W) CancelWorkflow(instanceID, reason string) (bool, error) {
	w.outside("CancelWorkflow")
	step := w.stepID("cancel_workflow")
	o := object{"op": "cancel", "instance_id": instanceID}
	if reason != "" {
		o["reason"] = reason
	}
	w.command(step, "CancelRequested", "", nil, o)
	return finished[bool](w.blocking(step))
}

// Recur ends this instance and goes on in a new one with another input. It does not return.
func (w *W) Recur(input any) {
	w.outside("Recur")
	w.command(w.stepID("recur"), "WorkflowRecurred", "", nil, object{"op": "recur", "input": encode(input)})
	for {
		w.suspend(nil)
	}
}

// InstanceID is the instance's id.
func (w *W) InstanceID() string { return w.task.InstanceID }

// WorkflowName is the workflow's name.
func (w *W) WorkflowName() string { return w.task.Workflow }

// ScheduledAt is the time that a schedule's run is for; nil in other instances.
func (w *W) ScheduledAt() *time.Time { return w.task.ScheduledAt }

// Attempt counts how often a worker has taken this instance without giving it back, and this time.
func (w *W) Attempt() int { return w.task.Attempt }

// IsReplaying is true while history answers.
func (w *W) IsReplaying() bool { return w.unused() != "" }
