package romancy

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	mathrand "math/rand"
	"time"
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

// Call runs an activity by its name: one in the database, of another language, or of a queue.
func Call[O any](w *W, name string, input any) (O, error) {
	h := Spawn[O](w, name, input)
	return finished[O](w.blocking(h.step))
}

// Spawn schedules an activity in parallel.
func Spawn[O any](w *W, name string, input any) Handle[O] {
	step, raw := w.stepID(name), encode(input)
	w.command(step, activityKinds, name, raw, object{"op": "activity", "name": name, "input": raw})
	return Handle[O]{step}
}

// Child runs another workflow and gives its result.
func Child[O any](w *W, name string, input any) (O, error) {
	h := SpawnChild[O](w, name, input)
	return finished[O](w.blocking(h.step))
}

// SpawnChild starts another workflow beside this one.
func SpawnChild[O any](w *W, name string, input any) Handle[O] {
	step, raw := w.stepID(name), encode(input)
	w.command(step, childKinds, name, raw, object{"op": "child", "name": name, "input": raw})
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
	for w.outcome(h.step) == nil {
		w.suspend(object{"all": []string{h.step}})
	}
	return finished[T](w.outcome(h.step))
}

// All gives the results of all, in their order, or the first error in that order.
func All[T any](w *W, handles []Handle[T]) ([]T, error) {
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

// SpawnTimer gives a timer as a handle.
func (w *W) SpawnTimer(d time.Duration) Handle[struct{}] {
	step := w.stepID("spawn_timer")
	w.command(step, timerKinds, "", nil, object{"op": "timer", "duration": interval(d)})
	return Handle[struct{}]{step}
}

// Sleep is durable: no process waits.
func (w *W) Sleep(d time.Duration) {
	step := w.stepID("sleep")
	w.command(step, timerKinds, "", nil, object{"op": "timer", "duration": interval(d)})
	w.blocking(step)
}

// SleepUntil is durable, too.
func (w *W) SleepUntil(until time.Time) {
	step := w.stepID("sleep_until")
	w.command(step, timerKinds, "", nil, object{"op": "timer", "until": until.UTC().Format(time.RFC3339Nano)})
	w.blocking(step)
}

// Message is what Receive gives.
type Message[T any] struct {
	ID       int64           `json:"id"`
	Channel  string          `json:"channel"`
	Data     T               `json:"data"`
	Metadata json.RawMessage `json:"metadata"`
	Sender   string          `json:"sender"`
}

// Receive gives the oldest message of a channel that was sent to this instance (or published, once subscribed); past the timeout
// (0: none) ErrTimeout.
func Receive[T any](w *W, channel string, timeout time.Duration) (Message[T], error) {
	step := w.stepID("receive_" + channel)
	o := object{"op": "receive", "channel": channel}
	if timeout > 0 {
		o["timeout"] = interval(timeout)
	}
	w.command(step, receiveKinds, "", nil, o)
	return finished[Message[T]](w.blocking(step))
}

// SpawnReceive gives the next message of a channel as a handle.
func SpawnReceive[T any](w *W, channel string) Handle[Message[T]] {
	step := w.stepID("spawn_receive_" + channel)
	w.command(step, receiveKinds, "", nil, object{"op": "receive", "channel": channel})
	return Handle[Message[T]]{step}
}

// Now is the time, recorded: the same in every replay.
func (w *W) Now() time.Time {
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
	value := mathrand.Float64()
	if e := w.record(w.stepID("workflow_random"), "ValueRecorded", "", object{"op": "random", "value": value}); e != nil {
		raw, _ := e.value()
		value, _ = decode[float64](raw)
	}
	return value
}

// UUID is a random UUID, recorded.
func (w *W) UUID() string {
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
	w.record(w.stepID("set_value"), "ValueSet", key, object{"op": "set_value", "key": key, "value": encode(value)})
}

// SetLabels replaces the instance's labels.
func (w *W) SetLabels(labels map[string]any) {
	w.record(w.stepID("set_labels"), "LabelsSet", "", object{"op": "set_labels", "labels": labels})
}

// Progress says how far the workflow is; total 0: unknown.
func (w *W) Progress(done, total int64, note string) {
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
	w.record(w.stepID("register_compensation"), "CompensationRegistered", activity,
		object{"op": "register_compensation", "activity": activity, "input": encode(input)})
}

// Compensate runs now what is registered, and gives how many succeeded.
func (w *W) Compensate() (int, error) {
	step := w.stepID("compensate")
	w.command(step, "Compensated", "", nil, object{"op": "compensate"})
	return finished[int](w.blocking(step))
}

// Publish sends a message to a channel's subscribers.
func (w *W) Publish(channel string, data any) {
	w.command(w.stepID("publish_"+channel), "MessagePublished", "", nil, object{"op": "publish", "channel": channel, "data": encode(data)})
}

// SendTo sends a message to one instance.
func (w *W) SendTo(instanceID, channel string, data any) {
	w.command(w.stepID("send_to_"+instanceID+"_"+channel), "MessageSent", "", nil,
		object{"op": "send_to", "instance_id": instanceID, "channel": channel, "data": encode(data)})
}

// Subscribe subscribes in mode "broadcast", "competing" or "direct".
func (w *W) Subscribe(channel, mode string) {
	w.command(w.stepID("subscribe_"+channel), "ChannelSubscribed", "", nil, object{"op": "subscribe", "channel": channel, "mode": mode})
}

// Unsubscribe takes Subscribe back.
func (w *W) Unsubscribe(channel string) {
	w.command(w.stepID("unsubscribe_"+channel), "ChannelUnsubscribed", "", nil, object{"op": "unsubscribe", "channel": channel})
}

// JoinGroup makes the instance a member of a group until it ends.
func (w *W) JoinGroup(name string) {
	w.command(w.stepID("join_group_"+name), "GroupJoined", "", nil, object{"op": "join_group", "name": name})
}

// LeaveGroup takes JoinGroup back.
func (w *W) LeaveGroup(name string) {
	w.command(w.stepID("leave_group_"+name), "GroupLeft", "", nil, object{"op": "leave_group", "name": name})
}

// Recur ends this instance and goes on in a new one with another input. It does not return.
func (w *W) Recur(input any) {
	w.command(w.stepID("recur"), "WorkflowRecurred", "", nil, object{"op": "recur", "input": encode(input)})
	for {
		w.suspend(nil)
	}
}

// InstanceID is the instance's id.
func (w *W) InstanceID() string { return w.task.InstanceID }
