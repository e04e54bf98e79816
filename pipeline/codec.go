package pipeline

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/protobuf/encoding/protowire"
)

// MaxBlockRequests is how many requests a full block holds. A block may carry
// somewhat more (a reader finishes its line batch); past twice as many the
// codec refuses it.
const MaxBlockRequests = 4096

// The bounds of an encoded block. Nothing is allocated for a size that a block
// declares before it was held against these.
const (
	maxBlockRows    = 2 * MaxBlockRequests
	maxBlockColumns = 64 << 20 // bytes of columns before compression
	maxBlockHeader  = 1 << 20
	maxRejectKinds  = 1024
	maxRejectSample = 1024

	blockVersion = 1
)

// ErrBlockVersion is wrapped by errors about a block that a newer weir wrote.
var ErrBlockVersion = errors.New("written by a newer weir")

// Codec turns blocks into bytes and back; block.proto describes the bytes. It
// keeps the compressor's and the dictionaries' memory and may be used by
// several goroutines at once.
type Codec struct {
	enc     *zstd.Encoder
	dec     *zstd.Decoder
	seed    maphash.Seed
	encodes sync.Pool // of *blockEncoder
	decodes sync.Pool // of *blockDecoder
}

// NewCodec returns a Codec.
func NewCodec() *Codec {
	// The options are constants in range: neither constructor can fail.
	enc, _ := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<20),
		zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true))
	dec, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBlockColumns),
		zstd.WithDecoderLowmem(true), zstd.WithDecodeAllCapLimit(true))
	return &Codec{enc: enc, dec: dec, seed: maphash.MakeSeed()}
}

// BlockHeader is what is known of an encoded block without decompressing it.
type BlockHeader struct {
	Rows             int
	MinTime, MaxTime Time // of the requests' own stamps; NoTime for an empty block
	Owners           OwnerFilter
	Source           string
	SourceID         uint64
	Cause            CauseRange
	Cursor           []byte
	Watermark        Time
	Rejects          Rejects

	columns int // bytes before compression
}

// AppendBlock appends the encoded b to dst. It reads b only. Equal blocks give
// equal bytes from one version of weir. The error says which bound b is over;
// dst is then returned as it was.
func (c *Codec) AppendBlock(dst []byte, b *Block) ([]byte, error) {
	if len(b.Requests) > maxBlockRows {
		return dst, fmt.Errorf("encode block of %s: %d requests, at most %d fit: cut it", b.Source, len(b.Requests), maxBlockRows)
	}
	if len(b.Rejects.Reason) > maxRejectKinds || len(b.Rejects.Sample) > maxRejectSample {
		return dst, fmt.Errorf("encode block of %s: %d reject reasons and %d samples, at most %d of each fit",
			b.Source, len(b.Rejects.Reason), len(b.Rejects.Sample), maxRejectKinds)
	}
	e, _ := c.encodes.Get().(*blockEncoder)
	if e == nil {
		e = &blockEncoder{seed: c.seed, salt: maphash.String(c.seed, "numbers")}
	}
	defer func() {
		e.release()
		c.encodes.Put(e)
	}()
	e.columns(b.Requests)
	if len(e.out) > maxBlockColumns {
		return dst, fmt.Errorf("encode block of %s: %d bytes of columns, at most %d fit: cut it", b.Source, len(e.out), maxBlockColumns)
	}
	e.header(b)
	if len(e.head) > maxBlockHeader {
		return dst, fmt.Errorf("encode block of %s: header of %d bytes, at most %d fit: shorten reject samples and cursor",
			b.Source, len(e.head), maxBlockHeader)
	}
	dst = protowire.AppendTag(dst, 1, protowire.VarintType)
	dst = protowire.AppendVarint(dst, blockVersion)
	dst = protowire.AppendTag(dst, 2, protowire.BytesType)
	dst = protowire.AppendBytes(dst, e.head)
	if len(b.Requests) > 0 {
		e.packed = c.enc.EncodeAll(e.out, e.packed[:0])
		dst = protowire.AppendTag(dst, 3, protowire.BytesType)
		dst = protowire.AppendBytes(dst, e.packed)
	}
	return dst, nil
}

// DecodeHeader reads the header of an encoded block into h. h.Owners and
// h.Cursor point into data.
func DecodeHeader(data []byte, h *BlockHeader) error {
	_, err := splitBlock(data, h)
	return err
}

// DecodeBlock fills b from data, an encoded block, and keeps no reference to
// data. The requests' strings point into b.Arena. b.Requests and b.Arena are
// used again where they are large enough, so what was read from b before, and
// whatever else its Arena belonged to, is overwritten; a fresh Block is always
// right. After an error b holds no requests.
func (c *Codec) DecodeBlock(data []byte, b *Block) error {
	b.Requests = b.Requests[:0]
	var h BlockHeader
	packed, err := splitBlock(data, &h)
	if err != nil {
		return err
	}
	if h.Source != b.Source {
		b.Source = h.Source
	}
	b.SourceID, b.Cause, b.Watermark, b.Rejects = h.SourceID, h.Cause, h.Watermark, h.Rejects
	b.Cursor = nil
	if len(h.Cursor) > 0 {
		b.Cursor = append(b.Cursor, h.Cursor...)
	}
	if h.Rows == 0 {
		return nil
	}
	if cap(b.Arena) < h.columns {
		b.Arena = make([]byte, 0, h.columns)
	}
	b.Arena, err = c.dec.DecodeAll(packed, b.Arena[:0:h.columns])
	if err != nil {
		return fmt.Errorf("decode block: decompress columns: %w", err)
	}
	if len(b.Arena) != h.columns {
		return fmt.Errorf("decode block: %d bytes of columns where the header says %d", len(b.Arena), h.columns)
	}
	if cap(b.Requests) < h.Rows {
		b.Requests = make([]Request, h.Rows)
	} else {
		b.Requests = b.Requests[:h.Rows]
		clear(b.Requests)
	}
	d, _ := c.decodes.Get().(*blockDecoder)
	if d == nil {
		d = &blockDecoder{}
	}
	defer func() {
		clear(d.values[:cap(d.values)])
		c.decodes.Put(d)
	}()
	if err := d.columns(b.Arena, b.Requests); err != nil {
		clear(b.Requests)
		b.Requests = b.Requests[:0]
		return fmt.Errorf("decode block: %w", err)
	}
	for i := range b.Requests {
		b.Requests[i].Seal()
	}
	return nil
}

// splitBlock reads the outer message and the header, and checks every declared
// size. It returns the compressed columns.
func splitBlock(data []byte, h *BlockHeader) (packed []byte, err error) {
	var version uint64
	var head []byte
	err = eachField(data, func(num protowire.Number, v uint64, p []byte) error {
		switch num {
		case 1:
			version = v
		case 2:
			head = p
		case 3:
			packed = p
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("decode block: %w", err)
	}
	switch {
	case version == 0:
		return nil, errors.New("decode block: no version: not a block")
	case version > blockVersion:
		return nil, fmt.Errorf("decode block: version %d, this weir reads up to %d: %w", version, blockVersion, ErrBlockVersion)
	case len(head) > maxBlockHeader:
		return nil, fmt.Errorf("decode block: header of %d bytes, at most %d", len(head), maxBlockHeader)
	}
	if err := h.decode(head); err != nil {
		return nil, fmt.Errorf("decode block header: %w", err)
	}
	if h.Rows == 0 {
		return nil, nil
	}
	if len(packed) == 0 {
		return nil, fmt.Errorf("decode block: %d rows but no columns", h.Rows)
	}
	return packed, nil
}

// header builds the header of b in e.head; the columns are built already.
func (e *blockEncoder) header(b *Block) {
	h := e.head[:0]
	uint64Field := func(num protowire.Number, v uint64) {
		if v != 0 {
			h = protowire.AppendVarint(protowire.AppendTag(h, num, protowire.VarintType), v)
		}
	}
	bytesField := func(num protowire.Number, v []byte) {
		if len(v) > 0 {
			h = protowire.AppendBytes(protowire.AppendTag(h, num, protowire.BytesType), v)
		}
	}
	uint64Field(1, uint64(len(b.Requests)))
	if len(b.Requests) > 0 {
		lo, hi := b.Requests[0].Time, b.Requests[0].Time
		for i := range b.Requests {
			lo, hi = min(lo, b.Requests[i].Time), max(hi, b.Requests[i].Time)
		}
		uint64Field(2, protowire.EncodeZigZag(int64(lo)))
		uint64Field(3, protowire.EncodeZigZag(int64(hi)))
		uint64Field(4, uint64(len(e.out)))
	}
	e.filter = appendOwnerFilter(e.filter[:0], e.owners.values)
	bytesField(5, e.filter)
	bytesField(6, []byte(b.Source))
	h = protowire.AppendFixed64(protowire.AppendTag(h, 7, protowire.Fixed64Type), b.SourceID)
	uint64Field(8, protowire.EncodeZigZag(b.Cause.From))
	uint64Field(9, protowire.EncodeZigZag(b.Cause.To))
	bytesField(10, b.Cursor)
	if b.Watermark != NoTime {
		h = protowire.AppendTag(h, 11, protowire.VarintType)
		h = protowire.AppendVarint(h, protowire.EncodeZigZag(int64(b.Watermark)))
	}
	uint64Field(12, protowire.EncodeZigZag(b.Rejects.Lines))
	e.reasons = e.reasons[:0]
	for reason := range b.Rejects.Reason {
		e.reasons = append(e.reasons, reason)
	}
	e.head = h
	e.rejects(b.Rejects)
}

// decode reads a header. It copies what is text, and nothing else.
func (h *BlockHeader) decode(data []byte) error {
	*h = BlockHeader{MinTime: NoTime, MaxTime: NoTime, Watermark: NoTime}
	var lo, hi Time
	err := eachField(data, func(num protowire.Number, v uint64, p []byte) error {
		switch num {
		case 1:
			if v > maxBlockRows {
				return fmt.Errorf("%d rows, at most %d", v, maxBlockRows)
			}
			h.Rows = int(v)
		case 2:
			lo = Time(protowire.DecodeZigZag(v))
		case 3:
			hi = Time(protowire.DecodeZigZag(v))
		case 4:
			if v > maxBlockColumns {
				return fmt.Errorf("%d bytes of columns, at most %d", v, maxBlockColumns)
			}
			h.columns = int(v)
		case 5:
			h.Owners = p
		case 6:
			h.Source = string(p)
		case 7:
			h.SourceID = v
		case 8:
			h.Cause.From = protowire.DecodeZigZag(v)
		case 9:
			h.Cause.To = protowire.DecodeZigZag(v)
		case 10:
			h.Cursor = p
		case 11:
			h.Watermark = Time(protowire.DecodeZigZag(v))
		case 12:
			h.Rejects.Lines = protowire.DecodeZigZag(v)
		case 13:
			return h.Rejects.decodeReason(p)
		case 14:
			return h.Rejects.decodeSample(p)
		}
		return nil
	})
	if h.Rows > 0 {
		h.MinTime, h.MaxTime = lo, hi
	}
	return err
}

func (r *Rejects) decodeReason(data []byte) error {
	if len(r.Reason) >= maxRejectKinds {
		return fmt.Errorf("more than %d reject reasons", maxRejectKinds)
	}
	if r.Reason == nil {
		r.Reason = make(map[string]int64)
	}
	var reason string
	var lines int64
	err := eachField(data, func(num protowire.Number, v uint64, p []byte) error {
		switch num {
		case 1:
			reason = string(p)
		case 2:
			lines = protowire.DecodeZigZag(v)
		}
		return nil
	})
	r.Reason[reason] = lines
	return err
}

func (r *Rejects) decodeSample(data []byte) error {
	if len(r.Sample) >= maxRejectSample {
		return fmt.Errorf("more than %d reject samples", maxRejectSample)
	}
	var s RejectSample
	err := eachField(data, func(num protowire.Number, v uint64, p []byte) error {
		switch num {
		case 1:
			s.Reason = string(p)
		case 2:
			s.Line = protowire.DecodeZigZag(v)
		case 3:
			s.Text = string(p)
		}
		return nil
	})
	r.Sample = append(r.Sample, s)
	return err
}

// eachField calls f for every field of a message: v of a varint or fixed64
// field, p of a bytes field. Fields of other types are passed over.
func eachField(data []byte, f func(num protowire.Number, v uint64, p []byte) error) error {
	for len(data) > 0 {
		num, typ, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		var v uint64
		var p []byte
		switch typ {
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(data)
		case protowire.Fixed64Type:
			v, n = protowire.ConsumeFixed64(data)
		case protowire.BytesType:
			p, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(num, typ, data)
			num = 0
		}
		if n < 0 {
			return fmt.Errorf("field %d: %w", num, protowire.ParseError(n))
		}
		data = data[n:]
		if num == 0 {
			continue
		}
		if err := f(num, v, p); err != nil {
			return err
		}
	}
	return nil
}
