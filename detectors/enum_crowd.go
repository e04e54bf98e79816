package detectors

import "weir/pipeline"

type crowds struct{}

func (sh *sharing) crowd(*knot, *pipeline.Signal, *EndpointBaseline) {}
func (c *crowds) tick(*knot, pipeline.Time)                          {}
func fitMerged(*Baselines, []fitContact, map[uint64]bool)            {}
