package collector

import (
	"bytes"
	"encoding/base64"

	"weir/pipeline"
)

// objectID returns the id that v is, nil for none, and the type that a global id
// names, nil for none; both may be made in scratch.
func objectID(scratch *[]byte, v []byte) (kind, id []byte) {
	if pipeline.ObjectID(str(v)) {
		return nil, v
	}
	if len(v) < 8 || len(v) > maxGlobalID {
		return nil, nil
	}
	if rest, ok := bytes.CutPrefix(v, []byte("gid://")); ok {
		return globalID(rest, '/')
	}
	from := len(*scratch)
	coding := base64.RawStdEncoding
	if bytes.IndexByte(v, '-') >= 0 || bytes.IndexByte(v, '_') >= 0 {
		coding = base64.RawURLEncoding
	}
	out, err := coding.AppendDecode(*scratch, bytes.TrimRight(v, "="))
	if err != nil {
		return nil, nil
	}
	if kind, id = globalID(out[from:], ':'); id != nil {
		*scratch = out
	}
	return kind, id
}

// globalID splits "shop/Order/1042" and "Order:1042" at the last mark.
func globalID(b []byte, mark byte) (kind, id []byte) {
	i := bytes.LastIndexByte(b, mark)
	if i < 1 || !pipeline.ObjectID(str(b[i+1:])) {
		return nil, nil
	}
	kind = b[:i]
	if j := bytes.LastIndexByte(kind, mark); j >= 0 {
		kind = kind[j+1:]
	}
	for _, c := range kind {
		if c|0x20-'a' >= 26 && c != '_' {
			return nil, nil
		}
	}
	if len(kind) == 0 {
		return nil, nil
	}
	return kind, b[i+1:]
}
