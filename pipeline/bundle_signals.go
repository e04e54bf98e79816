package pipeline

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// A bundle of signals as bytes is a protobuf message:
//
//	1 version · 2 spans · 3 a block of the requests behind the signals, each once ·
//	4 the name of a source, each once · 5 columns, zstd · 6 their size before ·
//	7 places of controls, from version 2 on
//
// The columns follow one another with their lengths in front: numbers as varints,
// mostly as differences to what the request says already; hashes by their index in
// a list of the distinct ones; places by what they share with the one before.

const (
	bundleVersion     = 2
	maxBundleSignals  = 1 << 16
	maxBundleSpans    = 1 << 12
	maxBundleRequests = maxBlockRows
	maxBundleColumns  = 64 << 20
)

// The columns of a bundle of signals.
const (
	sigSpan     = iota
	sigRow      // of the request, as a difference
	sigSource   // by request
	sigMeeting  // with Class above it
	sigKind     //
	sigFlags    // of the observation
	sigShared   // bytes that the place shares with the one before, then how many others follow
	sigPlace    // these
	sigHashes   // indexes, ten a signal
	sigWeight   // what a suppression sets aside above it
	sigValue    //
	sigScore    //
	sigTime     // against Effective
	sigNumber   //
	sigBytes    // against the request's
	sigRarity   //
	sigTail     //
	sigPage     //
	sigStatus   // against the request's
	sigHashList // the distinct hashes, eight bytes each
	sigColumns  // how many there are
)

// hashesOf are the hashes of a signal, those last that most often are another's.
func hashesOf(s *Signal) [10]*uint64 {
	o := &s.Facts
	return [10]*uint64{&s.Sender, &o.Owner, &o.Template, &o.Endpoint, &o.Path, &o.Item, &o.Object, &o.User, &o.Agent, &s.Key}
}

type signalColumns [sigColumns][]byte

func (c *signalColumns) uint(column int, v uint64) {
	c[column] = binary.AppendUvarint(c[column], v)
}

func (c *signalColumns) int(column int, v int64) { c.uint(column, protowire.EncodeZigZag(v)) }

// AppendSignals appends the encoded b to dst: equal bundles give equal bytes from
// one version of weir. Signals of one request come next to one another.
func (c *Codec) AppendSignals(dst []byte, b *Bundle[Signal]) ([]byte, error) {
	if len(b.Items) > maxBundleSignals || len(b.Spans) > maxBundleSpans {
		return dst, fmt.Errorf("encode signals: %d in %d spans, at most %d in %d fit: cut them", len(b.Items), len(b.Spans), maxBundleSignals, maxBundleSpans)
	}
	if err := b.check(); err != nil {
		return dst, fmt.Errorf("encode signals: %w", err)
	}
	var cols signalColumns
	block := Block{Watermark: NoTime}
	hashes, sources := map[uint64]uint64{0: 0}, map[string]uint64{}
	var names []string
	var last *Request
	var before Place
	for i := range b.Items {
		s := &b.Items[i]
		r := s.Request.Request
		fresh := r != last
		if last = r; fresh {
			block.Requests = append(block.Requests, *r)
			name := ""
			if s.Request.Block != nil {
				name = s.Request.Block.Source
			}
			if _, ok := sources[name]; !ok {
				sources[name] = uint64(len(names))
				names = append(names, name)
			}
			cols.uint(sigSource, sources[name])
		}
		cols.uint(sigSpan, uint64(b.Of[i]))
		cols.uint(sigRow, pickUint(fresh, 1, 0))
		cols.signal(s, &before, hashes)
	}
	if len(block.Requests) > maxBundleRequests {
		return dst, fmt.Errorf("encode signals: of %d requests, at most %d fit: cut them", len(block.Requests), maxBundleRequests)
	}
	dst = protowire.AppendVarint(protowire.AppendTag(dst, 1, protowire.VarintType), bundleVersion)
	dst = protowire.AppendBytes(protowire.AppendTag(dst, 2, protowire.BytesType), appendSpans(nil, b.Spans))
	if len(b.Controls) > 0 {
		dst = protowire.AppendBytes(protowire.AppendTag(dst, 7, protowire.BytesType), appendPlaces(nil, b.Controls))
	}
	if len(b.Items) == 0 {
		return dst, nil
	}
	packed, err := c.AppendBlock(nil, &block)
	if err != nil {
		return dst, fmt.Errorf("encode signals: %w", err)
	}
	dst = protowire.AppendBytes(protowire.AppendTag(dst, 3, protowire.BytesType), packed)
	for _, name := range names {
		dst = protowire.AppendString(protowire.AppendTag(dst, 4, protowire.BytesType), name)
	}
	all := cols.joined()
	dst = protowire.AppendBytes(protowire.AppendTag(dst, 5, protowire.BytesType), c.enc.EncodeAll(all, nil))
	return protowire.AppendVarint(protowire.AppendTag(dst, 6, protowire.VarintType), uint64(len(all))), nil
}

// joined puts the columns behind one another.
func (c *signalColumns) joined() (all []byte) {
	for i := range c {
		all = append(binary.AppendUvarint(all, uint64(len(c[i]))), c[i]...)
	}
	return all
}

func pickUint(is bool, yes, no uint64) uint64 {
	if is {
		return yes
	}
	return no
}

// signal writes what of s is in the columns.
func (c *signalColumns) signal(s *Signal, before *Place, hashes map[uint64]uint64) {
	o, r := &s.Facts, s.Request.Request
	c.uint(sigMeeting, uint64(s.Meeting)<<8|uint64(o.Class))
	c[sigKind] = append(c[sigKind], s.Kind)
	c.uint(sigFlags, uint64(o.Flags))
	c.place(s.Place, before)
	for _, h := range hashesOf(s) {
		n, ok := hashes[*h]
		if !ok {
			n = uint64(len(hashes))
			hashes[*h] = n
			c[sigHashList] = binary.LittleEndian.AppendUint64(c[sigHashList], *h)
		}
		c.uint(sigHashes, n)
	}
	c.uint(sigWeight, uint64(s.Weight)|pickUint(s.Aside, 1<<32, 0)|uint64(s.Spare)<<33)
	c.uint(sigValue, s.Value)
	c.int(sigScore, int64(s.Score))
	c.int(sigTime, int64(o.Time-r.Effective))
	c.int(sigNumber, o.Number)
	c.int(sigBytes, o.Bytes-r.Bytes)
	c.int(sigRarity, int64(o.Rarity))
	c.int(sigTail, int64(o.Tail))
	c.int(sigPage, int64(o.Page))
	c.int(sigStatus, int64(o.Status)-int64(r.Status))
}

// place writes p as what it shares with the place before, what follows, and
// nothing for the zeros at its end.
func (c *signalColumns) place(p Place, before *Place) {
	from := 0
	for from < len(p) && p[from] == before[from] {
		from++
	}
	to := len(p)
	for to > from && p[to-1] == 0 {
		to--
	}
	c[sigShared] = append(c[sigShared], byte(from), byte(to-from))
	c[sigPlace] = append(c[sigPlace], p[from:to]...)
	*before = p
}

func appendSpans(dst []byte, spans []Span) []byte {
	for i := range spans {
		s := &spans[i]
		dst = append(dst, byte(s.Stage))
		dst = binary.LittleEndian.AppendUint16(dst, s.Slice)
		dst = append(append(dst, s.From[:]...), s.To[:]...)
	}
	return dst
}

const spanBytes = 3 + 2*len(Place{})

func decodeSpans(dst []Span, data []byte) ([]Span, error) {
	if len(data)%spanBytes != 0 || len(data)/spanBytes > maxBundleSpans {
		return dst, fmt.Errorf("%d bytes of spans", len(data))
	}
	for ; len(data) > 0; data = data[spanBytes:] {
		s := Span{Producer: Producer{Stage(data[0]), binary.LittleEndian.Uint16(data[1:])}}
		copy(s.From[:], data[3:])
		copy(s.To[:], data[3+len(s.From):])
		dst = append(dst, s)
	}
	return dst, nil
}

func appendPlaces(dst []byte, places []Place) []byte {
	for i := range places {
		dst = append(dst, places[i][:]...)
	}
	return dst
}

func decodePlaces(dst []Place, data []byte) ([]Place, error) {
	const size = len(Place{})
	if len(data)%size != 0 {
		return dst, fmt.Errorf("%d bytes of places", len(data))
	}
	for ; len(data) > 0; data = data[size:] {
		dst = append(dst, Place(data[:size]))
	}
	return dst, nil
}

// DecodeSignals fills b from data, an encoded bundle, and keeps no reference to
// data. What the signals point to is theirs.
func (c *Codec) DecodeSignals(data []byte, b *Bundle[Signal]) error {
	b.Reset()
	if err := c.decodeSignals(data, b); err != nil {
		b.Reset()
		return fmt.Errorf("decode signals: %w", err)
	}
	return nil
}

func (c *Codec) decodeSignals(data []byte, b *Bundle[Signal]) error {
	var version, size uint64
	var packed, columns []byte
	var sources []*Block
	err := eachField(data, func(num protowire.Number, v uint64, p []byte) (err error) {
		switch num {
		case 1:
			version = v
		case 2:
			b.Spans, err = decodeSpans(b.Spans[:0], p)
		case 3:
			packed = p
		case 4:
			sources = append(sources, &Block{Source: string(p), Watermark: NoTime})
		case 5:
			columns = p
		case 6:
			size = v
		case 7:
			b.Controls, err = decodePlaces(b.Controls[:0], p)
		}
		return err
	})
	switch {
	case err != nil:
		return err
	case version == 0:
		return errors.New("no version: no bundle")
	case version > bundleVersion:
		return fmt.Errorf("version %d, this weir reads up to %d: %w", version, bundleVersion, ErrBlockVersion)
	case size > maxBundleColumns:
		return fmt.Errorf("%d bytes of columns, at most %d", size, maxBundleColumns)
	case packed == nil:
		return b.check()
	}
	block := new(Block)
	if err := c.DecodeBlock(packed, block); err != nil {
		return err
	}
	all, err := c.dec.DecodeAll(columns, make([]byte, 0, size))
	if err != nil {
		return fmt.Errorf("decompress columns: %w", err)
	}
	if uint64(len(all)) != size {
		return fmt.Errorf("%d bytes of columns where %d are announced", len(all), size)
	}
	var d signalReader
	if err := d.split(all); err != nil {
		return err
	}
	if err := d.signals(b, block, sources); err != nil {
		return err
	}
	return b.check()
}

// signalReader reads columns; the first thing that is wrong with them is err.
type signalReader struct {
	signalColumns
	err    error
	before Place
}

func (d *signalReader) split(all []byte) error {
	for i := range d.signalColumns {
		n, size := binary.Uvarint(all)
		if size <= 0 || n > uint64(len(all)-size) {
			return errVarint
		}
		d.signalColumns[i], all = all[size:size+int(n)], all[size+int(n):]
	}
	if len(all) > 0 || len(d.signalColumns[sigHashList])%8 != 0 {
		return errors.New("more columns than there are")
	}
	return nil
}

func (d *signalReader) uint(column int, most uint64) uint64 {
	v, n := binary.Uvarint(d.signalColumns[column])
	if n <= 0 || v > most {
		d.fail("number", column)
		return 0
	}
	d.signalColumns[column] = d.signalColumns[column][n:]
	return v
}

func (d *signalReader) int(column int) int64 {
	return protowire.DecodeZigZag(d.uint(column, 1<<64-1))
}

func (d *signalReader) bytes(column, n int) []byte {
	if n > len(d.signalColumns[column]) {
		d.fail("end", column)
		return make([]byte, n)
	}
	p := d.signalColumns[column][:n]
	d.signalColumns[column] = d.signalColumns[column][n:]
	return p
}

func (d *signalReader) fail(what string, column int) {
	if d.err == nil {
		d.err = fmt.Errorf("the %s in column %d", what, column)
	}
}

func (d *signalReader) signals(b *Bundle[Signal], block *Block, sources []*Block) error {
	n := len(d.signalColumns[sigKind])
	if n > maxBundleSignals {
		return fmt.Errorf("%d signals, at most %d", n, maxBundleSignals)
	}
	hashes := d.signalColumns[sigHashList]
	row := -1
	var request Ordered
	for range n {
		if d.uint(sigRow, 1) == 1 {
			if row++; row >= len(block.Requests) {
				return fmt.Errorf("a signal of request %d, there are %d", row, len(block.Requests))
			}
			source := d.uint(sigSource, 1<<32)
			if source >= uint64(len(sources)) {
				return fmt.Errorf("a request of source %d, there are %d", source, len(sources))
			}
			request = Ordered{Request: &block.Requests[row], Block: sources[source]}
		}
		if row < 0 || d.err != nil {
			break
		}
		b.Add(Signal{Request: request}, int(d.uint(sigSpan, maxBundleSpans)))
		d.signal(&b.Items[len(b.Items)-1], hashes)
	}
	if d.err != nil {
		return d.err
	}
	if row != len(block.Requests)-1 {
		return fmt.Errorf("%d requests, %d of them behind signals", len(block.Requests), row+1)
	}
	return nil
}

func (d *signalReader) signal(s *Signal, hashes []byte) {
	o, r := &s.Facts, s.Request.Request
	meeting := d.uint(sigMeeting, 1<<16-1)
	s.Meeting, o.Class = Meeting(meeting>>8), EndpointClass(meeting)
	if s.Meeting >= Meetings || o.Class >= EndpointClasses {
		d.fail("meeting", sigMeeting)
	}
	s.Kind = d.bytes(sigKind, 1)[0]
	o.Flags = ObservationFlags(d.uint(sigFlags, 1<<32-1))
	d.place(&s.Place)
	for _, h := range hashesOf(s) {
		if n := d.uint(sigHashes, uint64(len(hashes)/8)); n > 0 {
			*h = binary.LittleEndian.Uint64(hashes[8*n-8:])
		}
	}
	weight := d.uint(sigWeight, 1<<49-1)
	s.Weight, s.Aside, s.Spare = uint32(weight), weight>>32&1 == 1, uint16(weight>>33)
	s.Value = d.uint(sigValue, 1<<64-1)
	s.Score = Nats(d.int(sigScore))
	o.Time = r.Effective + Time(d.int(sigTime))
	o.Number = d.int(sigNumber)
	o.Bytes = r.Bytes + d.int(sigBytes)
	o.Rarity, o.Tail = Nats(d.int(sigRarity)), Nats(d.int(sigTail))
	o.Page = int32(d.int(sigPage))
	o.Status = uint16(int64(r.Status) + d.int(sigStatus))
}

func (d *signalReader) place(p *Place) {
	n := d.bytes(sigShared, 2)
	from, more := int(n[0]), int(n[1])
	if from+more > len(p) {
		d.fail("place", sigShared)
		return
	}
	copy(p[:from], d.before[:from])
	copy(p[from:], d.bytes(sigPlace, more))
	d.before = *p
}
