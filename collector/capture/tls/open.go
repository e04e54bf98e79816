package tls

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"hash"

	"golang.org/x/crypto/chacha20poly1305"

	"weir/collector/capture"
	"weir/pipeline"
)

// suite is a cipher suite that can be opened.
type suite struct {
	key    int // bytes of the key
	chacha bool
	hash   func() hash.Hash
}

// suiteOf returns the suite of that number (IANA TLS Cipher Suites): those with
// AES-GCM and ChaCha20-Poly1305 of TLS 1.2 and 1.3.
func suiteOf(id uint16) (suite, bool) {
	switch id {
	case 0x1301, // TLS 1.3
		0x009c, 0x009e, 0x00a2, 0x00a8, 0xc02b, 0xc02d, 0xc02f, 0xc031:
		return suite{16, false, sha256.New}, true
	case 0x1302,
		0x009d, 0x009f, 0x00a3, 0x00a9, 0xc02c, 0xc02e, 0xc030, 0xc032:
		return suite{32, false, sha512.New384}, true
	case 0x1303,
		0xcca8, 0xcca9, 0xccaa, 0xccab, 0xccac, 0xccad, 0xccae:
		return suite{32, true, sha256.New}, true
	}
	return suite{}, false
}

func (s suite) aead(key []byte) cipher.AEAD {
	if s.chacha {
		if a, err := chacha20poly1305.New(key); err == nil {
			return a
		}
		return nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil
	}
	a, err := cipher.NewGCM(block)
	if err != nil {
		return nil
	}
	return a
}

// maxMissed is how many records may have been missed behind a gap: that many
// sequence numbers are tried.
const maxMissed = 64

// opener opens the records of one direction.
type opener struct {
	suite  suite
	tls13  bool
	missed bool   // a gap: the sequence number is not certain
	before uint64 // records that came before the keys did

	keyed
	secret []byte // of the running keys (TLS 1.3)
	next   []byte // the application secret, while the handshake's runs

	head  [handshakeHeader]byte // of the handshake message that is running
	nhead int
	left  int    // bytes of it still to come
	words []byte // of EncryptedExtensions
	alpn  string // what they say

	plain []byte // what Open wrote, kept for reuse
}

// keyed is a key with its counter.
type keyed struct {
	aead cipher.AEAD
	iv   [12]byte
	seq  uint64
}

// opener returns the opener of a direction; nil while there are no secrets for it.
// They may be written while the connection runs, but are looked for ever less often.
func (p *Parser) opener(dir capture.Direction) *opener {
	const often = 16
	h := &p.half[dir]
	if h.opener != nil || h.passed > often && h.passed&(h.passed-1) != 0 {
		return h.opener
	}
	if h.opener = p.newOpener(dir); h.opener != nil && h.passed > 0 {
		h.opener.late(h.passed)
	}
	return h.opener
}

// late says that n records came before the keys did. With TLS 1.3 some of them, at
// most a few, were the handshake's.
func (o *opener) late(n uint64) {
	const handshake = 16
	o.missed = true
	if o.tls13 {
		o.before = max(n, handshake) - handshake
		return
	}
	o.seq = n
}

// newOpener returns the opener of a direction; nil without secrets for it.
func (p *Parser) newOpener(dir capture.Direction) *opener {
	s, ok := suiteOf(p.hello.Cipher)
	if !ok {
		return nil
	}
	sec, ok := p.conf.Keys.of(p.random)
	if !ok {
		return nil
	}
	o := &opener{suite: s, tls13: p.hello.Version == versionTLS13}
	switch {
	case o.tls13 && sec.handshake[dir] != nil:
		o.next = sec.application[dir]
		o.use(sec.handshake[dir])
	case o.tls13 && sec.application[dir] != nil:
		o.use(sec.application[dir])
	case !o.tls13 && sec.master != nil:
		o.expand(sec.master, p.random, p.serverRandom, dir)
	}
	if o.aead == nil {
		return nil
	}
	return o
}

// use derives the keys of a TLS 1.3 traffic secret (RFC 8446, 7.3).
func (o *opener) use(secret []byte) {
	o.secret = secret
	o.keyed = o.suite.derive(secret)
}

func (s suite) derive(secret []byte) (k keyed) {
	key := ExpandLabel(s.hash, secret, "key", s.key)
	iv := ExpandLabel(s.hash, secret, "iv", len(k.iv))
	if key == nil || iv == nil {
		return k
	}
	copy(k.iv[:], iv)
	k.aead = s.aead(key)
	return k
}

// ExpandLabel is HKDF-Expand-Label of RFC 8446, 7.1, with an empty context; nil
// if n is out of its range.
func ExpandLabel(h func() hash.Hash, secret []byte, label string, n int) []byte {
	info := make([]byte, 0, 32)
	info = binary.BigEndian.AppendUint16(info, uint16(n))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(append(info, "tls13 "...), label...)
	info = append(info, 0)
	out, err := hkdf.Expand(h, secret, string(info), n)
	if err != nil {
		return nil
	}
	return out
}

// expand derives the keys of a TLS 1.2 master secret (RFC 5246, 6.3; GCM RFC
// 5288, ChaCha20 RFC 7905).
func (o *opener) expand(master []byte, client, server [32]byte, dir capture.Direction) {
	fixed := 4
	if o.suite.chacha {
		fixed = 12
	}
	seed := append([]byte("key expansion"), server[:]...)
	seed = append(seed, client[:]...)
	block := prf(o.suite.hash, master, seed, 2*o.suite.key+2*fixed)
	key := block[int(dir)*o.suite.key:][:o.suite.key]
	copy(o.iv[:], block[2*o.suite.key+int(dir)*fixed:][:fixed])
	o.aead = o.suite.aead(key)
}

// prf is P_hash of RFC 5246, 5.
func prf(h func() hash.Hash, secret, seed []byte, n int) []byte {
	mac := hmac.New(h, secret)
	mac.Write(seed)
	a := mac.Sum(nil)
	var out []byte
	for len(out) < n {
		mac.Reset()
		mac.Write(a)
		mac.Write(seed)
		out = mac.Sum(out)
		mac.Reset()
		mac.Write(a)
		a = mac.Sum(nil)
	}
	return out[:n]
}

// open opens the record that has ended and passes on what is inside.
func (p *Parser) open(dir capture.Direction, at pipeline.Time) {
	h := &p.half[dir]
	o := p.opener(dir)
	if o == nil {
		h.passed++
		return
	}
	if h.broken {
		// Its number is spent all the same.
		p.conf.Tally.Add(capture.LossRecord, int64(h.size))
		o.seq++
		o.nhead, o.left = 0, 0
		if p.inner != nil {
			p.inner.Gap(dir, at, -1)
		}
		return
	}
	typ, plain, ok := o.open(h.head, h.record)
	switch {
	case !ok:
		p.conf.Tally.Add(capture.LossRecord, int64(h.size))
	case typ == helloType:
		if o.handshake(plain); o.alpn != "" {
			p.hello.ALPN = o.alpn
		}
	case typ == dataType && len(plain) > 0:
		if p.inner == nil {
			p.inner = p.conf.Inner(p.flow)
		}
		p.inner.Data(dir, at, plain)
	}
}

// open opens one record and returns the type of what is inside. The bytes are
// valid until the next call.
func (o *opener) open(head [recordHead]byte, body []byte) (typ byte, plain []byte, ok bool) {
	tries := uint64(1)
	if o.missed {
		tries = maxMissed
	}
	for i := range tries {
		if typ, plain, ok = o.try(&o.keyed, o.seq+i, head, body); ok {
			o.seq += i + 1
			o.missed = false
			return typ, plain, true
		}
	}
	// The end of the handshake may have been missed, or was never to be seen.
	if o.next != nil {
		k := o.suite.derive(o.next)
		for i := range tries {
			if typ, plain, ok = o.try(&k, o.before+i, head, body); ok {
				o.keyed, o.secret, o.next = k, o.next, nil
				o.seq = o.before + i + 1
				o.missed = false
				return typ, plain, true
			}
		}
	}
	return 0, nil, false
}

// try opens a record under one sequence number.
func (o *opener) try(k *keyed, seq uint64, head [recordHead]byte, body []byte) (typ byte, plain []byte, ok bool) {
	if k.aead == nil {
		return 0, nil, false
	}
	nonce := k.iv
	var ad [13]byte
	extra := ad[:0]
	if !o.tls13 && !o.suite.chacha {
		if len(body) < 8 {
			return 0, nil, false
		}
		copy(nonce[4:], body[:8])
		body = body[8:]
	} else {
		binary.BigEndian.PutUint64(nonce[4:], binary.BigEndian.Uint64(nonce[4:])^seq)
	}
	n := len(body) - k.aead.Overhead()
	if n < 0 {
		return 0, nil, false
	}
	if o.tls13 {
		extra = append(extra, head[:]...)
	} else {
		extra = binary.BigEndian.AppendUint64(extra, seq)
		extra = append(extra, head[:3]...)
		extra = binary.BigEndian.AppendUint16(extra, uint16(n))
	}
	plain, err := k.aead.Open(o.plain[:0], nonce[:], body, extra)
	if err != nil {
		return 0, nil, false
	}
	o.plain = plain
	if !o.tls13 {
		return head[0], plain, true
	}
	for len(plain) > 0 && plain[len(plain)-1] == 0 {
		plain = plain[:len(plain)-1] // padding
	}
	if len(plain) == 0 {
		return 0, nil, false
	}
	return plain[len(plain)-1], plain[:len(plain)-1], true
}

// maxExtensionsSize is how much is read of EncryptedExtensions: they take some ten
// bytes.
const maxExtensionsSize = 1024

// chosen is the protocol that EncryptedExtensions name, "" if none.
func chosen(body []byte) string {
	c := cursor{b: body}
	for exts := (cursor{b: c.vec16()}); len(exts.b) > 0; {
		typ, inside := exts.u16(), cursor{b: exts.vec16()}
		if exts.bad {
			break
		}
		if typ == extALPN {
			names := cursor{b: inside.vec16()}
			return string(names.vec8())
		}
	}
	return ""
}

// handshake walks over messages inside records: Finished ends the handshake's
// keys, KeyUpdate the running ones.
func (o *opener) handshake(b []byte) {
	if !o.tls13 {
		return
	}
	for len(b) > 0 {
		if o.left == 0 {
			n := copy(o.head[o.nhead:], b)
			o.nhead += n
			b = b[n:]
			if o.nhead < handshakeHeader {
				return
			}
			o.nhead = 0
			o.left = int(o.head[1])<<16 | int(o.head[2])<<8 | int(o.head[3])
		}
		n := min(o.left, len(b))
		if o.head[0] == typeExtensions && len(o.words)+n <= maxExtensionsSize {
			o.words = append(o.words, b[:n]...)
		}
		o.left -= n
		b = b[n:]
		if o.left > 0 {
			return
		}
		switch {
		case o.head[0] == typeExtensions:
			o.alpn, o.words = chosen(o.words), nil
		case o.head[0] == typeFinished && o.next != nil:
			o.use(o.next)
			o.next = nil
		case o.head[0] == typeKeyUpdate:
			if next := ExpandLabel(o.suite.hash, o.secret, "traffic upd", len(o.secret)); next != nil {
				o.use(next)
			}
		}
	}
}
