package collector

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Log rotation gives a file another name: access.log becomes access.log.1,
// access.log-20250131 or access-20250131.log, and perhaps .gz later. This file
// finds it again.

// maxSiblings bounds how many files of a directory are looked at.
const maxSiblings = 4096

// rotationScheme is how rotated names are ordered.
type rotationScheme uint8

const (
	rotationOther  rotationScheme = iota // .old, .bak: no order
	rotationNumber                       // .1 is newer than .2
	rotationDate                         // later is newer
)

// rotation is a file beside the followed one that may be an earlier part of it.
type rotation struct {
	path   string
	scheme rotationScheme
	number int    // rotationNumber
	date   string // rotationDate
	packed bool   // by its name
}

// rotations lists the files beside path that may be earlier parts of it, plain
// ones before compressed ones and newer before older.
func rotations(path string) []rotation {
	dir, base := filepath.Split(path)
	if dir == "" {
		dir = "."
	}
	d, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer d.Close()
	var found []rotation
	for len(found) < maxSiblings {
		names, err := d.Readdirnames(256)
		for _, name := range names {
			if r, ok := parseRotation(base, name); ok {
				r.path = filepath.Join(dir, name)
				found = append(found, r)
			}
		}
		if err != nil {
			break
		}
	}
	slices.SortFunc(found, func(a, b rotation) int {
		packed := 0
		if a.packed != b.packed {
			packed = -1
			if a.packed {
				packed = 1
			}
		}
		return cmp.Or(packed, cmp.Compare(b.scheme, a.scheme), cmp.Compare(a.number, b.number), cmp.Compare(b.date, a.date), cmp.Compare(a.path, b.path))
	})
	return found
}

// parseRotation says how name, in the directory of base, relates to base; ok is
// false when it is another log.
func parseRotation(base, name string) (r rotation, ok bool) {
	if name == base {
		return r, false
	}
	rest := name
	for _, ext := range [...]string{".gz", ".zst"} {
		if s, cut := strings.CutSuffix(rest, ext); cut {
			rest, r.packed = s, true
		}
	}
	ext := filepath.Ext(base)
	stem := strings.TrimSuffix(base, ext)
	switch {
	case strings.HasPrefix(rest, base):
		rest = rest[len(base):] // access.log.1
	case ext != "" && stem != "" && strings.HasPrefix(rest, stem) && strings.HasSuffix(rest, ext) && len(rest) > len(base):
		rest = rest[len(stem) : len(rest)-len(ext)] // access-20250131.log
		if !strings.ContainsAny(rest[:1], ".-_") {
			return r, false
		}
	default:
		return r, false
	}
	if rest == "" {
		return r, r.packed // access.log.gz
	}
	digits := rest[1:]
	switch {
	case !strings.ContainsAny(rest[:1], ".-_"):
		return r, false // access.log2
	case digits != "" && len(digits) <= 5 && strings.Trim(digits, "0123456789") == "":
		r.scheme = rotationNumber
		for _, c := range digits {
			r.number = r.number*10 + int(c-'0')
		}
	case len(digits) >= 6 && len(digits) <= 40 && strings.Trim(digits[:4], "0123456789") == "" && strings.Trim(digits, "0123456789-_:.T") == "":
		r.scheme, r.date = rotationDate, digits
	}
	return r, true
}

// newer tells whether r was rotated away after the file at; both follow one
// scheme.
func (r *rotation) newer(at *rotation) bool {
	if r.scheme != at.scheme {
		return false
	}
	switch r.scheme {
	case rotationNumber:
		return r.number < at.number
	case rotationDate:
		return r.date > at.date
	}
	return false
}

// after returns the file that was begun next after at: the oldest of the newer
// ones, plain before compressed, or nil when that is the followed file itself.
func after(all []rotation, at *rotation) *rotation {
	var next *rotation
	for i := range all {
		r := &all[i]
		if r.newer(at) && (next == nil || next.newer(r)) {
			next = r
		}
	}
	return next
}

// locate finds the file that c was in: by its identity, else by how it begins.
// "" means it is gone.
func locate(path string, c *cursor) string {
	all := rotations(path)
	names := make([]string, 1, len(all)+1)
	names[0] = path
	for i := range all {
		names = append(names, all[i].path)
	}
	if c.id != (fileID{}) {
		for _, name := range names {
			if fi, err := os.Stat(name); err == nil && identify(fi) == c.id && holds(name, c) {
				return name
			}
		}
	}
	if c.printBytes > 0 {
		for _, name := range names {
			if holds(name, c) {
				return name
			}
		}
	}
	return ""
}

// holds tells whether the file begins as c says and reaches as far.
func holds(name string, c *cursor) bool {
	fi, err := os.Stat(name)
	if err != nil || !fi.Mode().IsRegular() || fi.Size() == 0 && c.offset > 0 {
		return false
	}
	f, err := openPart(name)
	if err != nil {
		return false
	}
	defer f.close()
	if f.packed == nil && fi.Size() < c.offset {
		return false
	}
	head := make([]byte, c.printBytes)
	if _, err := io.ReadFull(f, head); err != nil {
		return false
	}
	return fingerprint(head) == c.print
}

// part is an open file of the source: the followed one, or one that was rotated
// away and perhaps compressed.
type part struct {
	name   string
	file   *os.File // plain
	packed *File    // compressed, else nil
	id     fileID   // of the file as opened
}

func openPart(name string) (*part, error) {
	fi, err := os.Stat(name)
	if err != nil {
		return nil, openError(name, err)
	}
	if !fi.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, fmt.Errorf("open %s: %w; a file that is followed must be a regular one", name, ErrStream)
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, openError(name, err)
	}
	if fi, err = file.Stat(); err != nil {
		file.Close()
		return nil, openError(name, err)
	}
	p := &part{name: name, id: identify(fi)}
	var magic [4]byte
	n, _ := file.ReadAt(magic[:], 0)
	if s := string(magic[:n]); !strings.HasPrefix(s, gzipMagic) && !strings.HasPrefix(s, zstdMagic) {
		p.file = file
		return p, nil
	}
	file.Close()
	if p.packed, err = openStream(name, nil); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *part) Read(b []byte) (int, error) {
	if p.packed != nil {
		return p.packed.Read(b)
	}
	return p.file.Read(b)
}

func (p *part) close() {
	if p.packed != nil {
		p.packed.Close()
	} else {
		p.file.Close()
	}
}
