package pipeline

// Record is one entry of the requests log. Positions of a log start at 1 and
// have no holes.
type Record struct {
	Position int64
	// Block holds requests, or none and a Watermark: a heartbeat of a source
	// that has nothing to say. Exactly one of Block and Control is set.
	Block   *Block
	Control *Control
}

// Control is a fact from outside that detection reads (an edition, a changed
// configuration): it takes effect at its position in the log, so that a replay
// reads the same.
type Control struct {
	Kind    string // "edition", "config"
	Payload []byte
}
