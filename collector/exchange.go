package collector

import (
	"sync"
	"unicode/utf8"

	"weir/pipeline"
)

// Exchange is a request and its response as seen on the wire, in clear. Strings are
// valid as long as Batch.Add runs.
type Exchange struct {
	Time                    pipeline.Time
	Client                  string // address, without port
	Method, Target, Host    string
	Protocol                string
	Agent, Referer          string
	Forwarded               string // X-Forwarded-For
	ForwardedStd            string
	Authorization, APIKey   string
	Cookie                  string
	RequestID               string
	Location                string
	GRPCStatus              string // "" none
	JA3, JA4                string
	Status                  uint16
	Bytes, Duration, Number int64 // Number is its place in the source, from 1

	// The bodies as far as they were kept, decoded. They are read for the
	// operation, the account that a login tries, and whether the answer failed.
	RequestBody, ResponseBody []byte
	RequestType, ResponseType string // content types
}

// Batch makes blocks of exchanges, as Reader makes them of lines. One goroutine
// uses it, except for Release.
type Batch struct {
	source   string
	sourceID uint64
	identify Identify
	f        Fields
	c        *chunk
	rejects  rejects
	lines    int64
	from     int64

	mu    sync.Mutex
	free  []*chunk
	given map[*pipeline.Block]*chunk
}

// NewBatch returns an empty Batch of the source called name.
func NewBatch(name string, sourceID uint64, identify Identify) *Batch {
	b := &Batch{source: name, sourceID: sourceID, identify: identify, given: map[*pipeline.Block]*chunk{}}
	b.c = b.chunk()
	return b
}

// SourceID is the identity of a file in blocks; it is stable wherever weir starts.
func SourceID(name string) uint64 { return sourceID(name) }

func (b *Batch) chunk() *chunk {
	b.mu.Lock()
	defer b.mu.Unlock()
	if n := len(b.free); n > 0 {
		c := b.free[n-1]
		b.free = b.free[:n-1]
		return c
	}
	return &chunk{requests: make([]pipeline.Request, 0, blockRequests), tail: make([]byte, 0, 512<<10)}
}

// Begin sets the source's position before the first block.
func (b *Batch) Begin(from int64) { b.from = from }

// Full reports whether the block holds as many requests as it may.
func (b *Batch) Full() bool { return len(b.c.requests) >= blockRequests }

// Len is how many requests the block holds.
func (b *Batch) Len() int { return len(b.c.requests) }

// Reject counts an exchange that makes no request. text is cut and made safe.
func (b *Batch) Reject(r Reject, number int64, text string) {
	b.lines++
	b.rejects.add(r, []byte(text), number)
}

// Add appends the request that x is. Its block must not be Full.
func (b *Batch) Add(x *Exchange) {
	b.lines++
	f := &b.f
	f.exchange(x)
	b.c.add(f, x.Time, x.Number, b.identify)
}

// Take gives out the block and begins the next. to is the source's position behind
// it.
func (b *Batch) Take(to int64) *pipeline.Block {
	c := b.c
	n := len(c.requests)
	block := &pipeline.Block{
		Source: b.source, SourceID: b.sourceID, Requests: c.requests[:n:n],
		Cause: pipeline.CauseRange{From: b.from, To: to}, Watermark: pipeline.NoTime,
		Rejects: pipeline.Rejects{Lines: b.lines},
	}
	b.rejects.record(&block.Rejects)
	b.rejects.reasons = b.rejects.reasons[:0]
	b.from, b.lines = to, 0
	b.mu.Lock()
	b.given[block] = c
	b.mu.Unlock()
	b.c = b.chunk()
	return block
}

// Release takes a block back. Any goroutine may.
func (b *Batch) Release(block *pipeline.Block) {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.given[block]
	if c == nil {
		return
	}
	delete(b.given, block)
	if len(b.free) < 8 && cap(c.tail) <= 4<<20 {
		c.requests, c.tail = c.requests[:0], c.tail[:0]
		b.free = append(b.free, c)
	}
}

// exchange fills f from x.
func (f *Fields) exchange(x *Exchange) {
	f.reset()
	f.Time, f.HasTime = x.Time, true
	f.Method, f.Protocol = f.raw(x.Method), x.Protocol
	f.setHost(view(f.raw(x.Host)), false)
	host := f.Host
	f.setTarget(view(f.raw(x.Target)), false)
	if host != "" {
		f.Host = host
	}
	f.Agent, f.Referer = f.raw(x.Agent), f.raw(x.Referer)
	f.Status, f.Bytes, f.Duration = x.Status, x.Bytes, x.Duration
	f.JA3, f.JA4, f.RequestID = x.JA3, x.JA4, f.raw(x.RequestID)
	f.Remote, f.Forwarded, f.ForwardedStd = x.Client, f.raw(x.Forwarded), f.raw(x.ForwardedStd)
	if x.Authorization != "" {
		f.storeIdentity(slotAuthorization, view(x.Authorization), false)
	}
	if x.APIKey != "" {
		f.storeIdentity(slotAPIKey, view(x.APIKey), false)
	}
	if x.Cookie != "" {
		f.storeIdentity(slotCookies, view(x.Cookie), false)
	}
	f.Location = f.raw(x.Location)
	if x.GRPCStatus != "" {
		f.storeApplication(slotGRPC, view(x.GRPCStatus), false)
	}
	if len(x.RequestBody) > 0 {
		f.readBody(f.Path, x.RequestBody, nil)
	}
	if len(x.ResponseBody) > 0 && (f.Operation != "" || isGraphQL(f.Path)) {
		f.responseBody(x.ResponseBody)
	}
}

// raw makes a value from the wire one as logs have it: control characters and bytes
// that are no UTF-8 are written as \xhh.
func (f *Fields) raw(s string) string {
	plain := true
	for i := range len(s) {
		if c := s[i]; c < ' ' || c >= 0x7f {
			plain = false
			break
		}
	}
	if plain {
		return s
	}
	from := len(f.Scratch)
	high := utf8.ValidString(s)
	for i := range len(s) {
		switch c := s[i]; {
		case c < ' ' || c == 0x7f || c >= 0x80 && !high:
			f.Scratch = appendHex(f.Scratch, c)
		default:
			f.Scratch = append(f.Scratch, c)
		}
	}
	return str(f.Scratch[from:len(f.Scratch):len(f.Scratch)])
}

// answerMembers knows what says in a body that the application failed. It is never
// written.
var answerMembers = &jsonNode{kids: map[string]*jsonNode{
	"errors": {slot: slotAppErrors, rank: 2},
	"error":  {kids: map[string]*jsonNode{"code": {slot: slotAppError, rank: 1}}},
}}

// responseBody reads whether the operation failed behind a 200.
func (f *Fields) responseBody(b []byte) {
	i := skipSpace(b, 0)
	if i >= len(b) || b[i] != '{' {
		return
	}
	p := jsonParser{root: answerMembers, stop: slots}
	whole := p.object(b, i+1, p.root, 0) > 0
	f.Known = whole
	for _, s := range [...]slot{slotAppErrors, slotAppError} {
		if v := p.vals[s]; len(v.b) > 0 {
			f.storeApplication(s, v.b, v.escaped)
		}
	}
}
