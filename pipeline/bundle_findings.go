package pipeline

import (
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// sentFinding is a finding on its way to another process.
type sentFinding struct {
	Place Place    `json:"place"`
	Slice int      `json:"slice"`
	Of    uint16   `json:"of"`
	What  *Finding `json:"finding"`
}

type sentFindings struct {
	Version  int           `json:"version"`
	Spans    []spanText    `json:"spans"`
	Findings []sentFinding `json:"findings"`
	Controls []Place       `json:"controls,omitempty"` // from version 2 on
}

// spanText is a Span in JSON.
type spanText struct {
	Producer
	From Place `json:"from"`
	To   Place `json:"to"`
}

// AppendFindings appends the encoded b to dst, JSON under zstd (a protobuf message:
// 1 size before · 2 that): findings are few. Equal bundles give equal bytes from one version of weir.
func (c *Codec) AppendFindings(dst []byte, b *Bundle[Finding]) ([]byte, error) {
	if err := b.check(); err != nil {
		return dst, fmt.Errorf("encode findings: %w", err)
	}
	out := sentFindings{Version: bundleVersion, Controls: b.Controls}
	for _, s := range b.Spans {
		out.Spans = append(out.Spans, spanText(s))
	}
	for i := range b.Items {
		f := &b.Items[i]
		out.Findings = append(out.Findings, sentFinding{f.Place, f.Slice, b.Of[i], f})
	}
	data, err := json.Marshal(out)
	if err != nil {
		return dst, fmt.Errorf("encode findings: %w", err)
	}
	dst = protowire.AppendVarint(protowire.AppendTag(dst, 1, protowire.VarintType), uint64(len(data)))
	return protowire.AppendBytes(protowire.AppendTag(dst, 2, protowire.BytesType), c.enc.EncodeAll(data, nil)), nil
}

// DecodeFindings fills b from data, an encoded bundle, and keeps no reference to
// data.
func (c *Codec) DecodeFindings(data []byte, b *Bundle[Finding]) error {
	b.Reset()
	var size uint64
	var packed []byte
	err := eachField(data, func(num protowire.Number, v uint64, p []byte) error {
		switch num {
		case 1:
			size = v
		case 2:
			packed = p
		}
		return nil
	})
	if err == nil && size > maxBundleColumns {
		err = fmt.Errorf("%d bytes, at most %d", size, maxBundleColumns)
	}
	if err != nil {
		return fmt.Errorf("decode findings: %w", err)
	}
	raw, err := c.dec.DecodeAll(packed, make([]byte, 0, size))
	if err != nil {
		return fmt.Errorf("decode findings: %w", err)
	}
	var in sentFindings
	if err := json.Unmarshal(raw, &in); err != nil {
		return fmt.Errorf("decode findings: %w", err)
	}
	if in.Version < 1 || in.Version > bundleVersion {
		return fmt.Errorf("decode findings: version %d, this weir reads up to %d: %w", in.Version, bundleVersion, ErrBlockVersion)
	}
	for _, s := range in.Spans {
		b.Spans = append(b.Spans, Span(s))
	}
	b.Controls = append(b.Controls, in.Controls...)
	for _, f := range in.Findings {
		if f.What == nil {
			b.Reset()
			return fmt.Errorf("decode findings: no finding at %s", f.Place)
		}
		f.What.Place, f.What.Slice = f.Place, f.Slice
		b.Add(*f.What, int(f.Of))
	}
	if err := b.check(); err != nil {
		b.Reset()
		return fmt.Errorf("decode findings: %w", err)
	}
	return nil
}
