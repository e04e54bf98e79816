package collector

import (
	"bytes"
	"strings"
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
	logins   *pipeline.LoginRules
	f        Fields
	c        *chunk
	rejects  rejects
	lines    int64
	from     int64

	mu    sync.Mutex
	free  []*chunk
	given map[*pipeline.Block]*chunk
}

// NewBatch returns an empty Batch of the source called name. logins may be nil.
func NewBatch(name string, sourceID uint64, identify Identify, logins *pipeline.LoginRules) *Batch {
	if logins == nil {
		logins = &pipeline.LoginRules{}
	}
	b := &Batch{source: name, sourceID: sourceID, identify: identify, logins: logins, given: map[*pipeline.Block]*chunk{}}
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
	f.exchange(x, b.logins)
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
func (f *Fields) exchange(x *Exchange, logins *pipeline.LoginRules) {
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
		f.requestBody(x, logins)
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

// requestBody reads what a body says of the operation, and of who logs in.
func (f *Fields) requestBody(x *Exchange, logins *pipeline.LoginRules) {
	form := strings.Contains(x.RequestType, "form-urlencoded")
	if !form {
		if op := operationOfBody(x.RequestBody); op != "" {
			f.Operation = f.raw(op)
		}
	}
	_, asks := logins.Endpoint(f.Method, f.Path)
	if !asks && !pipeline.LoginOperation(f.Operation) {
		return
	}
	if form {
		f.LoginUser = f.raw(formLogin(x.RequestBody, &f.Scratch))
		return
	}
	p := jsonParser{root: loginMembers, stop: slots}
	if i := skipSpace(x.RequestBody, 0); i < len(x.RequestBody) && x.RequestBody[i] == '{' {
		p.object(x.RequestBody, i+1, p.root, 0)
	}
	if v := p.vals[slotLogin]; len(v.b) > 0 {
		f.LoginUser = f.text(v.b, v.escaped)
	}
}

// loginNames are the members and fields that name the account of a login, the
// better first.
const loginNames = `username user_name userName login email e-mail e_mail mail user userid user_id uid account account_name
	accountname login_name loginname user_login log identifier identity phone phone_number mobile msisdn handle name`

// loginMembers knows them in a JSON body, at its top and one object below. It is
// never written.
var loginMembers = makeLoginMembers()

func makeLoginMembers() *jsonNode {
	root := &jsonNode{}
	for _, wrap := range [...]string{"", "user.", "data.", "variables.", "variables.input.", "credentials.", "auth.", "login.", "account.",
		"params.", "data.attributes.", "input.", "session."} {
		for i, name := range strings.Fields(loginNames) {
			root.add(wrap+name, slotLogin, uint8(i+1))
		}
	}
	return root
}

// formLogin returns the account of a form, its escapes undone into scratch.
func formLogin(b []byte, scratch *[]byte) string {
	best, rank := "", len(loginNames)
	for n := 0; n < 64 && len(b) > 0; n++ {
		var pair []byte
		pair, b, _ = bytes.Cut(b, []byte{'&'})
		name, value, _ := bytes.Cut(pair, []byte{'='})
		if len(value) == 0 || len(name) > 64 {
			continue
		}
		var buf [64]byte
		low := str(appendLower(buf[:0], name))
		if i := strings.LastIndexByte(low, '['); i > 0 { // user[email]
			low = strings.TrimSuffix(low[i+1:], "]")
		} else if i := strings.Index(low, "%5b"); i > 0 {
			low = strings.TrimSuffix(low[i+3:], "%5d")
		}
		for i, known := range strings.Fields(loginNames) {
			if i < rank && low == known {
				best, rank = str(value), i
			}
		}
	}
	if best == "" || strings.IndexAny(best, "%+") < 0 {
		return best
	}
	from := len(*scratch)
	for i := 0; i < len(best); i++ {
		c := best[i]
		if c == '+' {
			c = ' '
		} else if c == '%' && i+2 < len(best) {
			if v, ok := hex(view(best[i+1:]), 2); ok {
				c = byte(v)
				i += 2
			}
		}
		*scratch = append(*scratch, c)
	}
	return str((*scratch)[from:len(*scratch):len(*scratch)])
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
