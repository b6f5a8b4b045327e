package romancy

// Signature is a canvas: a plain document, to be put together, stored, and run with RunCanvas or Canvas.
type Signature map[string]any

// Task is one activity with its input; nil: it gets the result before it.
func Task(name string, input any) Signature {
	s := Signature{"task": name}
	if input != nil {
		s["input"] = input
	}
	return s
}

// Chain runs one after the other, each with the result before it.
func Chain(signatures ...Signature) Signature { return Signature{"chain": list(signatures)} }

// Group runs all in parallel; an array of results.
func Group(signatures ...Signature) Signature { return Signature{"group": list(signatures)} }

// Chord runs all in parallel, then a callback with their results.
func Chord(header []Signature, body Signature) Signature {
	return Signature{"chord": map[string]any{"header": list(header), "body": body}}
}

// With gives the signature with an option of romancy.options(), such as "retry" or "on_error".
func (s Signature) With(option string, value any) Signature {
	options := map[string]any{}
	if before, ok := s["options"].(map[string]any); ok {
		for k, v := range before {
			options[k] = v
		}
	}
	options[option] = value
	whole := Signature{}
	for k, v := range s {
		whole[k] = v
	}
	whole["options"] = options
	return whole
}

func list(signatures []Signature) []Signature {
	if signatures == nil {
		return []Signature{}
	}
	return signatures
}
