package collector

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// SyslogConfig says what a Syslog takes and how.
type SyslogConfig struct {
	Source string // as users know it
	// Format reads the messages; nil goes by the first of them.
	Format  *Format
	Options ParseOptions // of messages that are recognised
	// NewIdentify makes the Identify; nil leaves requests without an owner.
	NewIdentify func() Identify
	// Cursor and Cause resume where the store was left.
	Cursor []byte
	Cause  int64
	// Allow says who may send; nil allows everybody.
	Allow func(netip.Addr) bool
	// MaxPending bounds the memory of lines that are not kept yet; 0 is 64 MiB.
	MaxPending int64
	// Flush is how long a line waits for company; 0 is 200 ms.
	Flush time.Duration
	Log   *zap.Logger
}

const (
	maxSyslogConns   = 256
	syslogFrame      = lineLimit + 4096 // a line and its header
	syslogLines      = 20               // make a format known
	syslogPatience   = 5                // flushes, after which fewer must do
	handshakeWithin  = 10 * time.Second
	datagramBuffer   = 8 << 20 // asked of the kernel: bursts wait there
	syslogRaw        = 8       // chunks between receivers and the parser
	syslogFullPeriod = 20 * time.Millisecond
)

// Syslog takes lines as syslog messages, RFC 3164 and 5424: datagrams, or
// streams framed by newlines or octet counts (RFC 6587), each frame in its own
// way. Syslog acknowledges nothing: what was received in the last moments before
// a crash is lost. A full pipeline holds streams up, which senders notice;
// datagrams are dropped, and counted.
//
// ServePackets, ServeStreams, Release and Stats are for any goroutine; one calls
// Next and Close.
type Syslog struct {
	inbox
	cfg     SyslogConfig
	dropped atomic.Int64
	refused atomic.Int64

	mu    sync.Mutex // of what receivers fill
	open  *chunk
	raw   chan *chunk
	conns map[net.Conn]bool
	wg    sync.WaitGroup

	// The parser's own.
	worker *worker
	format *Format
	held   []*chunk
	since  time.Time
	warned time.Time
}

// NewSyslog makes a Syslog and starts its parser; the caller gives it sockets.
func NewSyslog(cfg SyslogConfig) (*Syslog, error) {
	if cfg.MaxPending <= 0 {
		cfg.MaxPending = 64 << 20
	}
	orDefault(&cfg.Flush, 200*time.Millisecond)
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	s := &Syslog{cfg: cfg, format: cfg.Format, raw: make(chan *chunk, syslogRaw), conns: map[net.Conn]bool{}}
	if err := s.inbox.open(cfg.Source, cfg.NewIdentify, position{cfg.Cursor, cfg.Cause}, cfg.MaxPending); err != nil {
		return nil, err
	}
	s.open = s.pump.chunk(chunkSize)
	s.wg.Go(s.run)
	return s, nil
}

// Dropped is how many messages were lost because the pipeline was full, and how
// many senders were turned away.
func (s *Syslog) Dropped() (messages, senders int64) { return s.dropped.Load(), s.refused.Load() }

// ServePackets receives datagrams until conn is closed.
func (s *Syslog) ServePackets(conn *net.UDPConn) error {
	_ = conn.SetReadBuffer(datagramBuffer) // as much as the system allows
	buf := make([]byte, 64<<10)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		if s.cfg.Allow != nil && !s.cfg.Allow(from.Addr().Unmap()) {
			s.refused.Add(1)
			continue
		}
		if !s.add(buf[:n], false) {
			s.dropped.Add(1)
		}
	}
}

// ServeStreams accepts connections until l is closed.
func (s *Syslog) ServeStreams(l net.Listener) error {
	for {
		conn, err := l.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return nil
			}
			return err
		}
		if !s.admit(conn) {
			s.refused.Add(1)
			_ = conn.Close()
			continue
		}
		s.wg.Go(func() {
			err := s.stream(conn)
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
			_ = conn.Close()
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
				s.cfg.Log.Info("a syslog sender left in disorder", zap.String("source", s.cfg.Source), zap.Stringer("sender", conn.RemoteAddr()), zap.Error(err))
			}
		})
	}
}

func (s *Syslog) admit(conn net.Conn) bool {
	if a, ok := conn.RemoteAddr().(*net.TCPAddr); ok && s.cfg.Allow != nil && !s.cfg.Allow(a.AddrPort().Addr().Unmap()) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.closing:
		return false
	default:
	}
	if len(s.conns) >= maxSyslogConns {
		return false
	}
	s.conns[conn] = true
	return true
}

// stream reads one connection to its end.
func (s *Syslog) stream(conn net.Conn) error {
	if t, ok := conn.(*tls.Conn); ok {
		ctx, cancel := context.WithTimeout(context.Background(), handshakeWithin)
		defer cancel()
		if err := t.HandshakeContext(ctx); err != nil {
			return err
		}
	}
	r := bufio.NewReaderSize(conn, syslogFrame)
	for {
		frame, drop, err := nextFrame(r)
		if len(frame) > 0 && !s.add(frame, true) {
			return nil // weir is stopping
		}
		if err == nil && drop > 0 {
			_, err = io.CopyN(io.Discard, r, drop)
		}
		if err != nil {
			return err
		}
	}
}

// nextFrame reads a frame, which is valid until r is used again. Of one that
// does not fit it gives the beginning; drop bytes of it are left to be skipped.
func nextFrame(r *bufio.Reader) (frame []byte, drop int64, err error) {
	head, err := r.Peek(1)
	if err != nil {
		return nil, 0, err
	}
	if head[0]-'1' < 9 {
		if n, digits := octets(r); n > 0 {
			_, _ = r.Discard(digits + 1)
			want := min(n, syslogFrame)
			frame, err = r.Peek(want)
			if len(frame) < want {
				return nil, 0, io.ErrUnexpectedEOF
			}
			_, _ = r.Discard(len(frame))
			return frame, int64(n - want), err
		}
	}
	frame, err = r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		frame = bytes.Clone(frame)
		for errors.Is(err, bufio.ErrBufferFull) {
			_, err = r.ReadSlice('\n')
		}
	}
	return frame, 0, err
}

// octets reads "N <" ahead, a count before a message; 0 when there is none.
func octets(r *bufio.Reader) (n, digits int) {
	for size := 3; size <= 9; size++ {
		head, err := r.Peek(size)
		if err != nil {
			return 0, 0
		}
		switch c := head[size-2]; {
		case c == ' ':
			if head[size-1] != '<' {
				return 0, 0
			}
			for _, d := range head[:size-2] {
				n = n*10 + int(d-'0')
			}
			return n, size - 2
		case c-'0' > 9:
			return 0, 0
		}
	}
	return 0, 0
}

// add takes one message. With wait it waits for room, else it gives up at once;
// false says that the message is lost.
func (s *Syslog) add(message []byte, wait bool) bool {
	body := syslogBody(bytes.TrimRight(message, "\r\n\x00"))
	if len(body) == 0 {
		return true
	}
	body = body[:min(len(body), lineLimit+lineSlack)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open.data)+len(body)+1 > cap(s.open.data) || s.open.lines >= blockRequests {
		if !s.seal(wait) {
			return false
		}
	}
	from := len(s.open.data)
	s.open.data = append(append(s.open.data, body...), '\n')
	for i, c := range s.open.data[from : len(s.open.data)-1] {
		if c == '\n' {
			s.open.data[from+i] = ' ' // one message is one line
		}
	}
	s.open.lines++
	return true
}

// seal hands the open chunk to the parser. The caller holds mu.
func (s *Syslog) seal(wait bool) bool {
	s.open.end = int64(len(s.open.data))
	if !wait {
		select {
		case s.raw <- s.open:
		default:
			return false
		}
	} else {
		select {
		case s.raw <- s.open:
		case <-s.closing:
			return false
		}
	}
	s.open = s.pump.chunk(chunkSize)
	return true
}

// run parses what receivers sealed, and what waited for company long enough.
func (s *Syslog) run() {
	tick := time.NewTicker(s.cfg.Flush)
	defer tick.Stop()
	for {
		select {
		case c := <-s.raw:
			s.take(c)
		case <-tick.C:
			s.turn()
		case <-s.closing:
			return
		}
	}
}

// turn takes the open chunk, behind those that were sealed before it.
func (s *Syslog) turn() {
	for {
		select {
		case c := <-s.raw:
			s.take(c)
			continue
		default:
		}
		break
	}
	if !s.mu.TryLock() {
		return // a receiver waits for room: there is a sealed one
	}
	c := s.open
	if c.lines > 0 && len(s.raw) == 0 {
		c.end = int64(len(c.data))
		if len(c.data) <= smallChunk {
			small := s.pump.chunk(smallChunk)
			small.data = append(small.data, c.data...)
			small.lines, small.end = c.lines, c.end
			c.reset(0, 1)
			c = small
		} else {
			s.open = s.pump.chunk(chunkSize)
		}
	} else {
		c = nil
	}
	s.mu.Unlock()
	if c != nil || len(s.held) > 0 {
		s.take(c)
	}
}

// take parses c, once the format is known; nil looks whether it is.
func (s *Syslog) take(c *chunk) {
	if c != nil {
		if len(s.held) == 0 {
			s.since = time.Now()
		}
		s.held = append(s.held, c)
	}
	if s.format == nil {
		lines := int64(0)
		for _, c := range s.held {
			lines += c.lines
		}
		if lines < syslogLines && time.Since(s.since) < syslogPatience*s.cfg.Flush {
			return
		}
	}
	if len(s.held) == 0 {
		return
	}
	f := s.recognised()
	if s.worker == nil || s.worker.p.format != f {
		how := s.config(f)
		how.arrival = time.Now // a message is of now, whatever year its header leaves out
		s.worker = how.newWorker()
	}
	for _, c := range s.held {
		s.worker.parse(c)
		c.reserved = c.memory()
		for !s.reserve(c.reserved, 0) {
			select {
			case <-time.After(syslogFullPeriod):
			case <-s.closing:
				return
			}
		}
		s.put([]*chunk{c})
	}
	s.held = s.held[:0]
}

// recognised is the format to read with. While none is known the stock one
// counts what comes as rejected.
func (s *Syslog) recognised() *Format {
	if s.format != nil {
		return s.format
	}
	var lines [][]byte
	for _, c := range s.held {
		eachLine(c.data, func(line []byte, _ int) bool {
			lines = append(lines, line)
			return len(lines) < detectLines
		})
	}
	d := Detect(lines, s.cfg.Options)
	if d.Format != nil {
		s.format = d.Format
		s.cfg.Log.Info("reading", zap.String("source", s.cfg.Source), zap.String("format", d.Chosen))
		return s.format
	}
	if time.Since(s.warned) >= warnEvery {
		s.warned = time.Now()
		s.cfg.Log.Warn("cannot tell the format yet", zap.String("source", s.cfg.Source), zap.String("problem", d.Problem), zap.String("remedy", d.Remedy))
	}
	if s.worker != nil {
		return s.worker.p.format
	}
	f := combinedFormat(s.cfg.Options)
	return &f
}

// Close ends Next and the connections; the caller closes the sockets first.
func (s *Syslog) Close() error {
	s.close()
	s.mu.Lock()
	for c := range s.conns {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}
