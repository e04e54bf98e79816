// Package sums tells what each client's requests come to, so that what a fleet
// stored can be held against a log.
package sums

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/zeebo/xxh3"

	"weir/collector"
	"weir/pipeline"
)

// Client is what a client's requests come to, in any order.
type Client struct {
	Requests, Bytes int64
	Check           uint64 // sum of the hashes of what each of them is
}

// Add counts r; buf is scratch, which it returns for the next call.
func (s *Client) Add(r *pipeline.Request, buf []byte) []byte {
	buf = binary.LittleEndian.AppendUint64(buf[:0], uint64(r.Time))
	for _, n := range []int64{int64(r.Status), r.Bytes, r.Line} {
		buf = binary.LittleEndian.AppendUint64(buf, uint64(n))
	}
	buf = append(buf, r.Address[:]...)
	for _, text := range []string{r.Method, r.Host, r.Path, r.Query, r.Agent, r.Referer, r.Account, r.Key, r.Session} {
		buf = append(append(buf, text...), 0)
	}
	s.Requests, s.Bytes, s.Check = s.Requests+1, s.Bytes+r.Bytes, s.Check+xxh3.Hash(buf)
	return buf
}

// OfLog reads a log as collect does, without a fleet.
func OfLog(ctx context.Context, path, key string) (map[uint64]Client, error) {
	keys, err := pipeline.LoadOrCreatePrivacyKeys(key)
	if err != nil {
		return nil, err
	}
	logins, err := pipeline.NewLoginRules(nil)
	if err != nil {
		return nil, err
	}
	id, err := pipeline.NewIdentity(pipeline.DefaultIdentityConfig(), keys, logins)
	if err != nil {
		return nil, err
	}
	head, err := collector.Head(path)
	if err != nil {
		return nil, err
	}
	d := collector.Detect(head, collector.ParseOptions{})
	if d.Format == nil {
		return nil, errors.New(d.Problem)
	}
	r := collector.NewReader(collector.ReaderConfig{Path: path, Format: d.Format, Timed: true, NewIdentify: func() collector.Identify {
		one := id.NewResolver()
		return func(req *pipeline.Request, f *collector.Fields) { one.Resolve(req, &f.Clear) }
	}})
	defer r.Close()
	sums := map[uint64]Client{}
	var buf []byte
	for {
		b, err := r.Next(ctx)
		if errors.Is(err, io.EOF) {
			return sums, nil
		}
		if err != nil {
			return nil, err
		}
		for i := range b.Requests {
			s := sums[b.Requests[i].Owner]
			buf = s.Add(&b.Requests[i], buf)
			sums[b.Requests[i].Owner] = s
		}
		r.Release(b)
	}
}
