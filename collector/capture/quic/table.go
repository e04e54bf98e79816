package quic

import (
	"bytes"

	"weir/collector/capture"
	"weir/collector/capture/tls"
	"weir/pipeline"
)

const (
	// MaxConnections is how many connections a Table follows; beyond it the
	// oldest is given up.
	MaxConnections = 1 << 15
	// idle is how long a silent connection is followed (µs): clients and servers
	// commonly agree on 30 s.
	idle = 60 * 1e6
)

// Connection is what was seen of one QUIC connection.
type Connection struct {
	capture.Flow
	Opening capture.Hello // Flow.Hello points here once the ClientHello was read
	Version uint32
	// By direction: datagrams and the bytes in them.
	Packets, Bytes [2]int64
	Last           pipeline.Time

	ECH, GREASE bool

	dcid   []byte // the client's first destination id: the keys follow from it
	keys   keys   // of the client, until its hello is read
	crypto [2]stream
	done   [2]bool // the hello was read, or will not be
	slot   int
}

// Table follows connections by their addresses. It is for one goroutine.
type Table struct {
	// Tally counts: LossRecord is an Initial packet that cannot be opened,
	// LossMessage a hello that cannot be read.
	tally  *capture.Tally
	memory *capture.Memory
	// Done is called once for each connection, when it is given up; it may be nil.
	// The Connection is valid until it returns.
	done func(*Connection)

	open    map[pair]*Connection
	ring    []*Connection // by age, to give up the oldest; nil where one was
	next    int           // where the next one goes
	hand    int           // where the search for silent ones goes on
	scratch []byte
}

type pair struct {
	client, server         pipeline.Address
	clientPort, serverPort uint16
}

// NewTable returns an empty table.
func NewTable(tally *capture.Tally, memory *capture.Memory, done func(*Connection)) *Table {
	return &Table{tally: tally, memory: memory, done: done, open: map[pair]*Connection{}}
}

// Datagram takes the payload of one UDP datagram and reports whether it belongs
// to a QUIC connection that is followed. f has the sender as client.
func (t *Table) Datagram(f capture.Flow, at pipeline.Time, b []byte) (*Connection, bool) {
	t.expire(at)
	key := pair{f.Client, f.Server, f.ClientPort, f.ServerPort}
	back := pair{f.Server, f.Client, f.ServerPort, f.ClientPort}
	dir := capture.FromClient
	c := t.open[key]
	if c == nil {
		if c = t.open[back]; c != nil {
			dir = capture.FromServer
		}
	}
	for rest, data := b, true; data && Looks(rest); {
		var p packet
		if p, rest, data = next(rest); !data {
			t.tally.Add(capture.LossRecord, int64(len(b)))
			break
		}
		if p.kind != kindInitial {
			continue
		}
		if c == nil || dir == capture.FromClient {
			c = t.fromClient(c, f, key, at, p, len(b))
		} else {
			t.fromServer(c, p)
		}
	}
	if c == nil {
		return nil, false
	}
	c.Packets[dir]++
	c.Bytes[dir] += int64(len(b))
	c.Last = max(c.Last, at)
	return c, true
}

// fromClient takes an Initial packet of what is, or would be, a client. It
// returns the connection that it belongs to, nil if it can not be opened.
func (t *Table) fromClient(c *Connection, f capture.Flow, key pair, at pipeline.Time, p packet, size int) *Connection {
	if c != nil && (t.goesOn(c, p) || c.done[0] && bytes.Equal(p.dcid, c.dcid)) {
		return c
	}
	if size < minInitial {
		t.unread(c, p)
		return c
	}
	k := initialKeys(p.version, p.dcid, capture.FromClient)
	plain, ok := t.unprotect(&k, p)
	if !ok {
		// Not the first packet of a connection, or none at all.
		t.unread(c, p)
		return c
	}
	if c != nil && !c.done[0] {
		// After a Retry the client begins again, with the id it was told.
		t.drop(c, capture.FromClient)
	} else {
		if c != nil {
			t.close(c) // the addresses are used again
		}
		f.Start = at
		c = &Connection{Flow: f, Last: at}
		t.add(key, c)
	}
	c.Version, c.keys = p.version, k
	c.dcid = append(c.dcid[:0], p.dcid...)
	t.take(c, capture.FromClient, plain)
	return c
}

// goesOn takes a further packet of an opening.
func (t *Table) goesOn(c *Connection, p packet) bool {
	if c.done[0] {
		return false
	}
	k := c.keys
	if p.version != c.Version { // an agreement on another version keeps the first id
		k = initialKeys(p.version, c.dcid, capture.FromClient)
	}
	plain, ok := t.unprotect(&k, p)
	if ok {
		c.Version, c.keys = p.version, k
		t.take(c, capture.FromClient, plain)
	}
	return ok
}

// unread counts an Initial packet that cannot be opened; once the hello was read
// there is nothing to miss.
func (t *Table) unread(c *Connection, p packet) {
	if c == nil || !c.done[0] {
		t.tally.Add(capture.LossRecord, int64(len(p.whole)))
	}
}

func (t *Table) fromServer(c *Connection, p packet) {
	if c.done[capture.FromServer] {
		return
	}
	k := initialKeys(p.version, c.dcid, capture.FromServer)
	if plain, ok := t.unprotect(&k, p); ok {
		if c.done[capture.FromClient] {
			c.Version = p.version
		}
		t.take(c, capture.FromServer, plain)
		return
	}
	t.tally.Add(capture.LossRecord, int64(len(p.whole)))
}

func (t *Table) unprotect(k *keys, p packet) (plain []byte, ok bool) {
	plain, t.scratch, ok = k.open(p, t.scratch)
	return plain, ok
}

// take puts the CRYPTO frames of an opened packet in place and reads the hello
// when it is whole.
func (t *Table) take(c *Connection, dir capture.Direction, plain []byte) {
	if c.done[dir] {
		return
	}
	s := &c.crypto[dir]
	room := true
	read := frames(plain, func(offset int, data []byte) {
		room = s.put(offset, data, t.memory.Take) && room
	})
	if !read || !room {
		t.tally.Add(capture.LossMessage, int64(len(plain)))
	}
	typ, body, over := s.message()
	if body == nil && !over {
		return
	}
	c.done[dir] = true
	if over || !c.read(dir, typ, body) {
		t.tally.Add(capture.LossMessage, int64(len(s.buf)))
	}
	t.drop(c, dir)
	if dir == capture.FromClient {
		c.keys = keys{}
	}
}

// read takes a whole handshake message.
func (c *Connection) read(dir capture.Direction, typ byte, body []byte) bool {
	if dir == capture.FromClient {
		h, err := tls.ParseClientHello(body)
		if typ != 1 || err != nil {
			return false
		}
		tls.FillClient(&c.Opening, &h, tls.QUIC)
		c.ECH, c.GREASE = h.ECH, h.GREASE
		c.Hello = &c.Opening
		return true
	}
	h, err := tls.ParseServerHello(body)
	if typ != 2 || err != nil {
		return false
	}
	tls.FillServer(&c.Opening, &h)
	c.Hello = &c.Opening
	return true
}

// drop gives the memory of a direction back.
func (t *Table) drop(c *Connection, dir capture.Direction) {
	t.memory.Take(-int64(cap(c.crypto[dir].buf)))
	c.crypto[dir] = stream{}
}

func (t *Table) add(key pair, c *Connection) {
	if len(t.ring) < MaxConnections {
		t.ring = append(t.ring, nil)
		t.next = len(t.ring) - 1
	} else {
		t.next = (t.next + 1) % MaxConnections
		if old := t.ring[t.next]; old != nil {
			t.close(old)
		}
	}
	c.slot = t.next
	t.ring[t.next] = c
	t.open[key] = c
}

// expire looks at two connections and gives up the silent ones: with each
// datagram two, so that all are looked at in time.
func (t *Table) expire(at pipeline.Time) {
	for range min(2, len(t.ring)) {
		t.hand++
		if t.hand >= len(t.ring) {
			t.hand = 0
		}
		if c := t.ring[t.hand]; c != nil && at-c.Last > idle {
			t.close(c)
		}
	}
}

func (t *Table) close(c *Connection) {
	t.ring[c.slot] = nil
	delete(t.open, pair{c.Client, c.Server, c.ClientPort, c.ServerPort})
	t.drop(c, capture.FromClient)
	t.drop(c, capture.FromServer)
	if t.done != nil {
		t.done(c)
	}
}

// Flush gives up all connections, the oldest first.
func (t *Table) Flush() {
	for i := range t.ring {
		if c := t.ring[(t.next+1+i)%len(t.ring)]; c != nil {
			t.close(c)
		}
	}
	t.ring, t.next, t.hand = nil, 0, 0
}
