package mirror

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"

	"weir/collector"
	"weir/collector/capture"
	"weir/collector/capture/packet"
	"weir/collector/capture/tls"
	"weir/pipeline"
)

// ReaderConfig says what a Reader reads.
type ReaderConfig struct {
	Path   string // a capture file, plain or compressed
	Source string // what blocks call it; Path when empty
	// NewIdentify makes the Identify that decides who requests belong to.
	NewIdentify func() collector.Identify
	Keys        *tls.KeyLog // opens sealed connections; nil: keys in the file alone
}

// IsCapture reports whether a file, plain or compressed, is a capture.
func IsCapture(path string) bool {
	if fi, err := os.Stat(path); err != nil || !fi.Mode().IsRegular() {
		return false // what is read of a pipe is gone
	}
	f, err := collector.OpenBinary(path, nil)
	if err != nil {
		return false
	}
	defer f.Close()
	var head [4]byte
	n, _ := io.ReadFull(f, head[:])
	return packet.IsCapture(head[:n])
}

// Reader turns a capture file, from its beginning to its end, into blocks in the
// order in which exchanges ended. Cause is in bytes of the unpacked file, Line the
// number of the exchange. One goroutine calls Next and
// Close; Release and Stats are for any.
type Reader struct {
	cfg     ReaderConfig
	file    *collector.File
	batch   *collector.Batch
	summary Summary

	blocks  chan *pipeline.Block
	stopped chan struct{}
	wg      sync.WaitGroup
	opened  bool
	closed  bool
	ended   bool
	err     error // of the reading; for others once blocks is closed

	lines, bytes, raw, size atomic.Int64
}

// NewReader makes a Reader; the file is opened by the first Next.
func NewReader(cfg ReaderConfig) *Reader {
	if cfg.Source == "" {
		cfg.Source = cfg.Path
	}
	r := &Reader{cfg: cfg, blocks: make(chan *pipeline.Block, 4), stopped: make(chan struct{})}
	r.size.Store(-1)
	return r
}

// Next returns the next block, to be given back with Release. An error other than
// the context's is returned once, then io.EOF.
func (r *Reader) Next(ctx context.Context) (*pipeline.Block, error) {
	if r.closed || r.ended {
		return nil, io.EOF
	}
	if !r.opened {
		if err := r.open(); err != nil {
			r.ended = true
			return nil, err
		}
	}
	select {
	case b, ok := <-r.blocks:
		if ok {
			r.lines.Add(b.Rejects.Lines)
			r.bytes.Add(b.Cause.To - b.Cause.From)
			return b, nil
		}
		r.ended = true
		if r.err != nil {
			return nil, r.err
		}
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *Reader) open() error {
	f, err := collector.OpenBinary(r.cfg.Path, nil)
	if err != nil {
		return err
	}
	packets, err := packet.NewFile(f)
	if err != nil {
		f.Close()
		return errors.Join(collector.ErrEmpty, err)
	}
	r.file = f
	r.size.Store(f.Size())
	var identify collector.Identify
	if r.cfg.NewIdentify != nil {
		identify = r.cfg.NewIdentify()
	}
	r.batch = collector.NewBatch(r.cfg.Source, collector.SourceID(r.cfg.Source), identify)
	r.opened = true
	r.wg.Go(func() {
		r.err = r.run(packets)
		close(r.blocks)
	})
	return nil
}

// run reads the file to its end.
func (r *Reader) run(packets *packet.File) (err error) {
	convert := converter{batch: r.batch}
	var m *Mirror
	full := false
	keys := r.cfg.Keys
	if keys == nil {
		keys = &tls.KeyLog{}
	}
	packets.Secrets = secrets(keys)
	m = New(Config{Keys: keys, Emit: func(t *capture.Transaction) {
		convert.add(t, m.Streams.Exchanges)
		if r.batch.Full() {
			full = !r.give(packets.Read()) || full
		}
	}})
	var p packet.Packet
	last := pipeline.NoTime
	for !full {
		if err = packets.Next(&p); err != nil {
			break
		}
		if p.Time == pipeline.NoTime {
			p.Time = last // a simple packet block has none
		}
		last = p.Time
		m.Packet(&p)
	}
	if full {
		return nil
	}
	m.Flush()
	r.summary.add(m, packets)
	r.give(packets.Read())
	if !errors.Is(err, io.EOF) {
		return r.file.Damage(err, m.Frame())
	}
	return nil
}

// give hands the block on; false: nobody wants it any more.
func (r *Reader) give(to int64) bool {
	b := r.batch.Take(to)
	r.raw.Store(r.file.Raw())
	select {
	case r.blocks <- b:
		return true
	case <-r.stopped:
		return false
	}
}

// Release takes back a block that Next returned.
func (r *Reader) Release(b *pipeline.Block) { r.batch.Release(b) }

// Stats says how far the Reader has come.
func (r *Reader) Stats() collector.FileStats {
	return collector.FileStats{Lines: r.lines.Load(), Bytes: r.bytes.Load(), Raw: r.raw.Load(), Size: r.size.Load()}
}

// Summary is what the whole file came to, once Next has returned io.EOF.
func (r *Reader) Summary() Summary { return r.summary }

// Close ends the reading.
func (r *Reader) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	close(r.stopped)
	if !r.opened {
		return nil
	}
	r.wg.Wait()
	return r.file.Close()
}
