package romancy

import "time"

// RaiseEvent has a CloudEvent come in: it wakes WaitEvent, and starts workflows with that on_event. The handle's result is the event's id.
func (w *W) RaiseEvent(kind, source string, data any, options ...EventOptions) Handle[string] {
	w.outside("RaiseEvent")
	o := payload(object{"op": "raise_event", "type": kind, "source": source}, data)
	for _, e := range options {
		e.add(o)
		if e.InstanceID != "" {
			o["instance_id"] = e.InstanceID
		}
		if !e.Time.IsZero() {
			o["event_time"] = e.Time.UTC().Format(time.RFC3339Nano)
		}
	}
	return effect[string](w, w.stepID("raise_event_"+kind), "EventRaised", o)
}

// EventOptions are the attributes of a CloudEvent. InstanceID: it is for this instance alone.
type EventOptions struct {
	ID, Subject, DataContentType, InstanceID string
	Extensions                               map[string]any
	Time                                     time.Time
}

func (e EventOptions) add(o object) {
	for key, value := range map[string]string{"event_id": e.ID, "subject": e.Subject, "datacontenttype": e.DataContentType} {
		if value != "" {
			o[key] = value
		}
	}
	if e.Extensions != nil {
		o["extensions"] = e.Extensions
	}
}

// SendOptions of SendEvent. OrderingKey: the next event of this key is sent after the one before.
type SendOptions struct {
	ID, Subject, DataContentType, Destination, OrderingKey string
	Extensions                                             map[string]any
}

// SendEvent has a CloudEvent go out, by the outbox, to a destination or to all that ask for its type. The handle's result is the event's id.
func (w *W) SendEvent(kind, source string, data any, options SendOptions) Handle[string] {
	w.outside("SendEvent")
	o := payload(object{"op": "send_event", "type": kind, "source": source}, data)
	EventOptions{ID: options.ID, Subject: options.Subject, DataContentType: options.DataContentType, Extensions: options.Extensions}.add(o)
	for key, value := range map[string]string{"destination": options.Destination, "ordering_key": options.OrderingKey} {
		if value != "" {
			o[key] = value
		}
	}
	return effect[string](w, w.stepID("send_event_"+kind), "EventSent", o)
}

// WaitEvent waits for a CloudEvent of a type; past the timeout (0: none) ErrTimeout. The whole event is given.
func WaitEvent[T any](w *W, kind string, timeout time.Duration, options ...CallOption) (Event[T], error) {
	w.outside("WaitEvent")
	o := object{"op": "event", "type": kind}
	if timeout > 0 {
		o["timeout"] = interval(timeout)
	}
	step := w.given("receive_"+kind, o, options)
	w.command(step, "EventReceived ChannelMessageReceived MessageTimeout", "", nil, o)
	return finished[Event[T]](w.blocking(step))
}

// Event is what WaitEvent gives.
type Event[T any] struct {
	ID      string `json:"id"`
	Type    string `json:"type"`
	Source  string `json:"source"`
	Subject string `json:"subject"`
	Data    T      `json:"data"`
	Binary  []byte `json:"data_binary"` // where bytes were sent
}
