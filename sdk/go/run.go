package romancy

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"strings"
	"time"
)

// history event, as the server gives it.
type event struct {
	Seq        int64           `json:"seq"`
	EventType  string          `json:"event_type"`
	ActivityID *string         `json:"activity_id"`
	Data       json.RawMessage `json:"data"`
}

type eventData struct {
	Name   string          `json:"name"`
	Input  json.RawMessage `json:"input"`
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

func (e *event) data() eventData {
	var d eventData
	_ = json.Unmarshal(e.Data, &d)
	return d
}

var (
	scheduled = map[string]bool{"ActivityScheduled": true, "TimerScheduled": true, "ReceiveScheduled": true, "ChildWorkflowScheduled": true}
	failed    = map[string]bool{"ActivityFailed": true, "ChildWorkflowFailed": true, "MessageTimeout": true, "AwaitTimeout": true, "CallFailed": true}
)

// value is the result of the step, or its error.
func (e *event) value() (json.RawMessage, error) {
	d := e.data()
	if failed[e.EventType] {
		return nil, fromDocument(d.Error)
	}
	return d.Result, nil
}

type workflowTask struct {
	Token      string          `json:"token"`
	InstanceID string          `json:"instance_id"`
	Workflow   string          `json:"workflow"`
	Attempt    int             `json:"attempt"`
	Input      json.RawMessage `json:"input"`
	History    []event         `json:"history"`
	// ScheduledAt is null in instances that are no schedule's
	ScheduledAt *time.Time `json:"scheduled_at"`
}

// object is one record or command.
type object map[string]any

// encoded has every member as JSON, so that what JSON cannot hold is an error of the call that has it, in the workflow's goroutine.
func (o object) encoded() {
	for key, value := range o {
		switch value.(type) {
		case string, int, json.RawMessage: // as it is; what is raw comes from encode()
		default:
			o[key] = encode(value)
		}
	}
}

// wait is what the code waits for; nil members: see waitFor.
type wait struct {
	document any   // wait_for
	broken   error // the run is over, and is begun anew later: a connection has broken, say
}

// W is what a workflow's code is given: its calls are methods of it, or take it. It is run from the top again and
// again; each call is answered from history. While the code waits, its goroutine is kept.
type W struct {
	task     workflowTask
	steps    map[string]*event
	outcomes map[string]*event
	used     map[string]bool
	order    []string // ids of steps, as history has them
	counts   map[string]int
	lastSeq  int64
	records  []object
	commands []object

	q Querier // the worker's connection, for Transaction

	yield  chan *wait // the code waits (nil: it has ended)
	resume chan bool  // false: the run is given up
	output json.RawMessage
	err    error
	ended  bool
	// inside: the code of a Transaction runs
	inside bool
	// over: the run is given up or broken off; the code's deferred functions do nothing more
	over bool
	// changed: in what the code differs from history, whatever it recovered from
	changed *Error
}

func newW(task workflowTask) *W {
	w := &W{
		steps: map[string]*event{}, outcomes: map[string]*event{}, used: map[string]bool{}, counts: map[string]int{},
		yield: make(chan *wait), resume: make(chan bool),
	}
	w.absorb(task.History)
	return w
}

func (w *W) absorb(events []event) {
	for i := range events {
		e := &events[i]
		if e.Seq <= w.lastSeq {
			continue
		}
		w.lastSeq = e.Seq
		if e.ActivityID == nil || e.EventType == "CompensationExecuted" || e.EventType == "CompensationFailed" ||
			(strings.HasPrefix(e.EventType, "Workflow") && e.EventType != "WorkflowStarted") {
			continue
		}
		step := *e.ActivityID
		if first := w.steps[step]; first != nil && scheduled[first.EventType] {
			if w.outcomes[step] == nil {
				w.outcomes[step] = e
			}
			continue
		}
		if w.steps[step] == nil {
			w.order = append(w.order, step)
		}
		w.steps[step] = e
	}
}

// stop ends the workflow's goroutine with an error.
type stop struct{ err error }

func (s stop) Error() string { return s.err.Error() }

// Must gives a call's value; its error ends the workflow as returning it would. Elsewhere it panics.
func Must[T any](value T, err error) T {
	if err != nil {
		panic(stop{err})
	}
	return value
}

// outside refuses a call that the code of a Transaction makes: it would wait with the transaction open, or history would have it before
// the transaction, where a replay, which does not run that code, does not ask for it.
func (w *W) outside(call string) {
	if w.inside {
		panic(stop{fmt.Errorf("%s() cannot be called inside Transaction()", call)})
	}
}

func (w *W) differs(format string, args ...any) {
	w.changed = &Error{SQLState: "RM003", Message: fmt.Sprintf(format, args...),
		Hint: "Run the former program, or guard the change with Patched; then call romancy.resume_workflow()."}
	panic(stop{w.changed})
}

// goesOn ends the goroutine of a run that is over, and ends anew one whose program differs from history.
func (w *W) goesOn() {
	if w.over {
		runtime.Goexit()
	}
	if w.changed != nil {
		panic(stop{w.changed})
	}
}

func (w *W) stepID(name string) string {
	w.counts[name]++
	return fmt.Sprintf("%s:%d", name, w.counts[name])
}

func (w *W) unused() string {
	for _, step := range w.order {
		if !w.used[step] {
			return step
		}
	}
	return ""
}

func same(a, b json.RawMessage) bool {
	var x, y any
	_ = json.Unmarshal(a, &x)
	_ = json.Unmarshal(b, &y)
	return reflect.DeepEqual(x, y)
}

// known is the event that answers a call, of one of these kinds, this name and this input (nil: not compared); nil past
// the end of history.
func (w *W) known(step, kinds, name string, input json.RawMessage) *event {
	w.goesOn()
	if w.used[step] {
		w.differs("activity_id %q is used twice", step)
	}
	w.used[step] = true
	e := w.steps[step]
	if e == nil {
		if left := w.unused(); left != "" {
			w.differs("the program asks for %q; history holds %q", step, left)
		}
		return nil
	}
	if !strings.Contains(" "+kinds+" CallFailed ", " "+e.EventType+" ") {
		w.differs("the program asks for another kind of step %q than %s, which history holds", step, e.EventType)
	}
	d := e.data()
	held := d.Name
	if held == "" {
		held = step
		if i := strings.LastIndex(step, ":"); i >= 0 {
			held = step[:i]
		}
	}
	if name != "" && held != name {
		w.differs("the program asks for %q as %q; history holds %q", name, step, held)
	}
	if input != nil && e.EventType != "CallFailed" && !same(d.Input, input) {
		w.differs("the program asks for %q with another input than history holds: %.500s, %.500s", step, input, d.Input)
	}
	return e
}

func (w *W) record(step, kinds, name string, o object) *event {
	o.encoded()
	e := w.known(step, kinds, name, nil)
	if e == nil {
		o["id"] = step
		w.records = append(w.records, o)
	}
	return e
}

func (w *W) command(step, kinds, name string, input json.RawMessage, o object) {
	o.encoded()
	if w.known(step, kinds, name, input) == nil {
		o["id"] = step
		w.commands = append(w.commands, o)
	}
}

// outcome is the end of a step that may take time, or nil.
func (w *W) outcome(step string) *event {
	if e := w.outcomes[step]; e != nil {
		return e
	}
	if e := w.steps[step]; e != nil && !scheduled[e.EventType] {
		return e
	}
	return nil
}

// suspend has the code wait.
func (w *W) suspend(document any) {
	w.goesOn()
	w.yield <- &wait{document: document}
	if !<-w.resume {
		runtime.Goexit() // given up: it is begun anew elsewhere
	}
}

// breakOff ends the run in a way that its code does not learn of; it is begun anew later.
func (w *W) breakOff(err error) {
	w.ended, w.over = true, true
	w.yield <- &wait{broken: err}
	runtime.Goexit()
}

// blocking waits for the last command, as a handler's call waits.
func (w *W) blocking(step string) *event {
	for {
		if e := w.outcome(step); e != nil {
			return e
		}
		if n := len(w.commands); n > 0 && w.commands[n-1]["id"] == step {
			w.suspend(nil)
		} else {
			w.suspend(object{"all": []string{step}})
		}
	}
}

// start runs code in a goroutine of its own until it waits or ends.
func (w *W) start(code func(*W) (json.RawMessage, error)) *wait {
	go func() {
		normal := false
		defer func() {
			r := recover()
			if w.over {
				return
			}
			if s, ok := r.(stop); ok {
				w.err = s.err
			} else if r != nil {
				w.err = fmt.Errorf("panic: %v", r)
			} else if !normal {
				w.err = errors.New("runtime.Goexit was called in the workflow")
			}
			if w.changed != nil {
				w.err = w.changed
			}
			w.ended = true
			w.yield <- nil
		}()
		w.output, w.err = code(w)
		if left := w.unused(); w.err == nil && w.changed == nil && left != "" {
			w.differs("the program ends; history goes on with %q", left)
		}
		normal = true
	}()
	return <-w.yield
}

// isNonDeterminism: does the program differ from history?
func (w *W) isNonDeterminism() bool { return errors.Is(w.err, ErrNonDeterminism) }

// goOn lets the code that waits go on until it waits again or ends.
func (w *W) goOn() *wait {
	w.resume <- true
	return <-w.yield
}

// drop gives up a run that had begun before.
func (w *W) drop(fresh bool) {
	if !fresh {
		w.giveUp()
	}
}

// giveUp ends the goroutine of code that waits.
func (w *W) giveUp() {
	if !w.ended {
		w.over = true
		w.resume <- false
	}
}
