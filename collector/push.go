package collector

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"weir/pipeline"
)

// PushConfig says what a Push takes and how.
type PushConfig struct {
	Source string // as users know it
	// Formats gives the formats that senders may name; Default is the one of
	// "auto", nil to go by the lines themselves.
	Formats func(name string) (*Format, error)
	Default *Format
	Options ParseOptions // of lines that are recognised
	// NewIdentify makes one Identify for each worker; nil leaves requests
	// without an owner.
	NewIdentify func() Identify
	// Cursor and Cause resume where the store was left.
	Cursor []byte
	Cause  int64
	// Tokens are asked for; nil asks for none.
	Tokens *Tokens
	// Trusted says that the transport knows the sender: a client certificate.
	Trusted bool
	// MaxBody bounds a body as sent and unpacked; 0 is 16 MiB.
	MaxBody int64
	// MaxPending bounds the memory of lines that are not kept yet; 0 is 64 MiB.
	MaxPending int64
	// Patience is how long a sender waits for its lines to be kept; 0 is 30 s.
	Patience time.Duration
	// Receipt looks for what was stored under a key; nil when nothing was. Without
	// it the header Idempotency-Key is not looked at.
	Receipt func(ctx context.Context, key [32]byte) (*pipeline.Receipt, error)
	// Busy says that later stages are too far behind; nil never.
	Busy func() bool
	// OTLP takes OTLP/HTTP at /v1/logs and /v1/traces in place of lines.
	OTLP bool
	// Skipped is told of spans that are no server's HTTP request; nil is not.
	Skipped func(spans int64)
	// Answered is told of every answer; nil is not.
	Answered func(status int)
	Log      *zap.Logger
}

const (
	maxPushers    = 64 // bodies read at a time
	retryAfter    = 1  // seconds, for a sender that has to come again
	detectAgainAt = 20
)

// Push takes lines over HTTP: POST /ingest/v1/{format} with text lines, NDJSON
// or a JSON array, as they are, gzip or zstd. It answers 2xx when the lines are
// kept, for good: once their blocks were released. A body is taken whole or not
// at all; lines that are no request are counted, as in files. A full pipeline
// is 429 with Retry-After, and memory is bounded by MaxPending. Delivery is at
// least once: a sender that heard no answer sends again. With an Idempotency-Key
// it is once.
//
// ServeHTTP, Release and Stats are for any goroutine; one calls Next and Close.
type Push struct {
	inbox
	cfg     PushConfig
	bodies  bodies
	turns   chan struct{}
	mux     *http.ServeMux
	mu      sync.Mutex
	pumps   map[string]*pump // by format
	workers []*worker        // idle
	seen    *Format          // what auto last recognised
	claims  map[[32]byte]struct{}
}

// NewPush makes a Push; the caller gives it a server, see NewServer.
func NewPush(cfg PushConfig) (*Push, error) {
	if cfg.MaxBody <= 0 {
		cfg.MaxBody = 16 << 20
	}
	if cfg.MaxPending <= 0 {
		cfg.MaxPending = 64 << 20
	}
	orDefault(&cfg.Patience, 30*time.Second)
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	p := &Push{cfg: cfg, turns: make(chan struct{}, maxPushers), mux: http.NewServeMux(), pumps: map[string]*pump{}, claims: map[[32]byte]struct{}{}}
	if err := p.open(cfg.Source, cfg.NewIdentify, position{cfg.Cursor, cfg.Cause}, cfg.MaxPending); err != nil {
		return nil, err
	}
	if cfg.OTLP {
		p.serveOTLP()
		return p, nil
	}
	p.mux.HandleFunc("POST /ingest/v1/{format}", p.ingest)
	p.mux.HandleFunc("/ingest/v1/{format}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", "POST")
		p.refuse(w, &refusal{status: http.StatusMethodNotAllowed, detail: "lines are pushed with POST"})
	})
	p.mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		p.refuse(w, &refusal{status: http.StatusNotFound, detail: "lines are pushed to /ingest/v1/{format}; formats are auto, " + formatNames(", ")})
	})
	return p, nil
}

// NewServer is the server for p, with its limits set.
func (p *Push) NewServer() *http.Server {
	return &http.Server{
		Handler:           p,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       time.Minute,
		WriteTimeout:      time.Minute + p.cfg.Patience + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          zap.NewStdLog(p.cfg.Log),
	}
}

// Close ends Next; senders that wait are told that nobody knows. Blocks that
// were handed out stay valid.
func (p *Push) Close() error {
	p.close()
	return nil
}

// ServeHTTP answers a sender.
func (p *Push) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !p.admit(w, r) {
		return
	}
	p.mux.ServeHTTP(w, r)
}

// admit checks who sends. Where nothing is asked for, the sender must mean this
// machine by name and be no page in a browser, which could reach loopback.
func (p *Push) admit(w http.ResponseWriter, r *http.Request) bool {
	switch {
	case p.cfg.Tokens != nil:
		token, ok := bearer(r.Header.Get("Authorization"))
		if ok {
			_, ok = p.cfg.Tokens.Name(token)
		}
		if !ok {
			w.Header().Set("WWW-Authenticate", `Bearer realm="weir"`)
			p.refuse(w, &refusal{status: http.StatusUnauthorized, detail: "a bearer token of tokens_file is needed"})
		}
		return ok
	case p.cfg.Trusted:
		return true
	case r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") != "":
		p.refuse(w, &refusal{status: http.StatusForbidden, detail: "pages do not push here; programs send no Origin"})
		return false
	case !isLoopbackName(r.Host):
		p.refuse(w, &refusal{status: http.StatusMisdirectedRequest, detail: "without tokens this answers only to localhost, 127.0.0.1 and [::1]"})
		return false
	}
	return true
}

func bearer(header string) (token string, ok bool) {
	scheme, token, ok := strings.Cut(header, " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(scheme, "Bearer")
}

func isLoopbackName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// pushed is the answer to a body that was taken.
type pushed struct {
	Lines    int64            `json:"lines"`
	Requests int64            `json:"requests"`
	Rejected map[string]int64 `json:"rejected"`
}

func (p *Push) ingest(w http.ResponseWriter, r *http.Request) {
	leave, no := p.enter(r)
	defer leave()
	if no != nil {
		p.refuse(w, no)
		return
	}
	format := p.cfg.Default
	if name := r.PathValue("format"); name != "auto" {
		var err error
		if format, err = p.cfg.Formats(name); err != nil {
			p.refuse(w, &refusal{status: http.StatusNotFound, detail: err.Error()})
			return
		}
	}
	once, no := p.claim(r, r.PathValue("format"))
	if no != nil {
		p.refuse(w, no)
		return
	}
	defer once.end()
	body, done, err := p.bodies.open(p.capped(w, r), coding(r), p.cfg.MaxBody)
	defer func() { done() }()
	if err == nil && once != nil {
		if once.stored != nil {
			p.replay(w, r, once, body)
			return
		}
		body = io.TeeReader(body, once)
	}
	var chunks []*chunk
	var sum pushed
	if err == nil {
		chunks, sum, err = p.read(body, format, 0)
	}
	if err != nil {
		p.refuse(w, p.failed(r, err))
		return
	}
	leave() // what is read waits without a turn: its memory is counted
	if no := p.kept(r, chunks, once, sum); no != nil {
		p.refuse(w, no)
		return
	}
	p.answer(w, http.StatusOK, "application/json", sum.json())
}

// enter takes a turn at reading a body; leave gives it back, and may be called
// again. With a refusal there is none.
func (p *Push) enter(r *http.Request) (leave func(), no *refusal) {
	select {
	case p.turns <- struct{}{}:
	default:
		return func() {}, comeAgain()
	}
	taken := true
	leave = func() {
		if taken {
			<-p.turns
			taken = false
		}
	}
	if p.full() || p.cfg.Busy != nil && p.cfg.Busy() {
		return leave, comeAgain()
	}
	if r.ContentLength > p.cfg.MaxBody {
		return leave, p.failed(r, errTooLarge)
	}
	return leave, nil
}

// coding is how a body is packed.
func coding(r *http.Request) string {
	return strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding")))
}

func (p *Push) capped(w http.ResponseWriter, r *http.Request) io.Reader {
	return http.MaxBytesReader(w, r.Body, p.cfg.MaxBody)
}

// kept queues chunks and waits until they are kept; once may be nil.
func (p *Push) kept(r *http.Request, chunks []*chunk, once *claim, sum pushed) *refusal {
	if len(chunks) == 0 {
		return nil
	}
	d := &delivery{done: make(chan struct{}), receipt: once.receipt(sum)}
	if once != nil {
		d.kept = once.forget
	}
	p.putAs(d, chunks)
	err := p.await(r.Context(), d, p.cfg.Patience)
	switch {
	case err == nil:
		return nil
	case r.Context().Err() != nil:
		return &refusal{} // nobody waits for the answer
	}
	return &refusal{status: http.StatusServiceUnavailable, again: true, detail: "the lines may or may not be kept (" + err.Error() + "); send them again"}
}

// read parses a whole body into chunks, whose memory is then counted; mine is
// what is counted for the sender already.
func (p *Push) read(body io.Reader, format *Format, mine int64) (chunks []*chunk, sum pushed, err error) {
	s := splitter{src: body, limit: lineLimit, c: p.pump.chunk(chunkSize)}
	var w *worker
	defer func() {
		p.pump.put(s.c)
		if w != nil {
			p.giveBack(w)
		}
		if err != nil {
			p.drop(chunks)
			chunks = nil
		}
	}()
	sum.Rejected = map[string]int64{}
	for err == nil {
		if err = s.fill(); err != nil && !errors.Is(err, io.EOF) {
			return chunks, sum, err
		}
		n, lines := s.take(err != nil)
		if lines == 0 {
			continue
		}
		if w == nil {
			if format == nil {
				if format, err = p.recognise(s.c.data[:n]); err != nil {
					return chunks, sum, err
				}
			}
			w = p.worker(format)
		}
		var c *chunk
		if n <= smallChunk {
			c = s.cutSmall(p.pump.chunk(smallChunk), err != nil)
		} else {
			c = s.cut(p.pump.chunk(chunkSize), err != nil)
		}
		w.parse(c)
		chunks = append(chunks, c)
		memory := c.memory()
		if !p.reserve(memory, mine) {
			return chunks, sum, errFull
		}
		c.reserved = memory
		mine += memory
		for _, pc := range c.pieces[:c.used] {
			sum.Lines += pc.Rejects.Lines
			sum.Requests += int64(len(pc.Requests))
			for reason, n := range pc.Rejects.Reason {
				sum.Rejected[reason] += n
			}
		}
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return chunks, sum, err
}

// drop gives back chunks that are not handed on.
func (p *Push) drop(chunks []*chunk) {
	for _, c := range chunks {
		p.unreserve(c.reserved)
		p.pump.put(c)
	}
}

// unknownLines is a body whose format could not be told.
type unknownLines struct{ d Detection }

func (e *unknownLines) Error() string { return e.d.Problem + "; " + e.d.Remedy }

// recognise finds the format of lines: the one of the body before, if it reads
// half of them, else the one that reads most. Lines that nothing reads are those
// of the body before with something wrong in them, if there was one.
func (p *Push) recognise(data []byte) (*Format, error) {
	lines := make([][]byte, 0, detectAgainAt)
	eachLine(data, func(line []byte, _ int) bool {
		lines = append(lines, line)
		return len(lines) < detectLines
	})
	p.mu.Lock()
	seen := p.seen
	p.mu.Unlock()
	if seen != nil {
		head := lines[:min(len(lines), detectAgainAt)]
		if parsed, skipped := countParsed(*seen, head); (parsed+skipped)*2 >= len(head) {
			return seen, nil
		}
	}
	d := Detect(lines, p.cfg.Options)
	switch {
	case d.Format == nil && seen != nil:
		return seen, nil
	case d.Format == nil:
		return nil, &unknownLines{d}
	}
	p.mu.Lock()
	p.seen = d.Format
	p.mu.Unlock()
	p.cfg.Log.Info("reading", zap.String("source", p.cfg.Source), zap.String("format", d.Chosen))
	return d.Format, nil
}

// worker gives a worker for one body, with a parser of its own: what a parser
// keeps from line to line ends with the body.
func (p *Push) worker(f *Format) *worker {
	p.mu.Lock()
	defer p.mu.Unlock()
	cfg := p.pumps[f.Name]
	if cfg == nil || cfg.format != f {
		cfg = p.config(f)
		p.pumps[f.Name] = cfg
	}
	if free := p.workers; len(free) > 0 {
		w := free[len(free)-1]
		p.workers = free[:len(free)-1]
		w.p, w.parser = cfg, f.New()
		return w
	}
	return cfg.newWorker()
}

func (p *Push) giveBack(w *worker) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.workers) < maxPushers {
		p.workers = append(p.workers, w)
	}
}
