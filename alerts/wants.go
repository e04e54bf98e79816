package alerts

import (
	"maps"
	"slices"

	"weir/pipeline"
)

// Wants tells whether the routes send a to a sink.
func (c *Config) Wants(sink string, a *pipeline.Alert) bool {
	_, ok := c.wants(sink, a)
	return ok
}

// SinkNames are the names of the sinks, in order.
func (c *Config) SinkNames() []string { return slices.Sorted(maps.Keys(c.Sinks)) }

// SinkKind is the word for the kind of a sink, "" for none of this name.
func (c *Config) SinkKind(sink string) string {
	of, ok := c.Sinks[sink]
	if !ok {
		return ""
	}
	if k := of.kind(); k != nil {
		return k.name
	}
	return ""
}
