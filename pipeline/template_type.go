package pipeline

// SlotType is what the values of a template's variable segment look like.
type SlotType uint8

// The slot types, from what a value looks like alone. SlotStr and SlotSlug
// are learned only: nothing in a single value tells a slug from a fixed word.
const (
	SlotNone  SlotType = iota // a fixed word
	SlotInt                   // decimal digits, up to 19
	SlotUUID                  // 8-4-4-4-12 hexadecimal digits
	SlotULID                  // 26 digits of Crockford's base 32
	SlotHex                   // 16 or more hexadecimal digits
	SlotB64                   // 20 or more characters of base 64 or 62 that read like noise
	SlotEmail                 // name@host.tld
	SlotDate                  // 2026-11-22 and its like; eight digits alone are SlotInt
	SlotIP                    // IPv4 or IPv6
	SlotPhone                 // + and 7 to 15 digits
	SlotJWT                   // eyJ... with two dots
	SlotMixed                 // 8 or more characters, 3 or more of them digits
	SlotLong                  // more than 128 bytes, or all that is deeper than 16 segments
	SlotFile                  // the name of an asset; its extension stays in the template
	SlotStr                   // learned: many values in one place
	SlotSlug                  // learned, at the root alone: titles of several words; single words there are no values
	slotTypes
)

var slotNames = [slotTypes]string{
	"", "{int}", "{uuid}", "{ulid}", "{hex}", "{b64}", "{email}", "{date}", "{ip}", "{phone}", "{jwt}", "{mixed}", "{long}", "{file}", "{str}", "{slug}",
}

// String is the slot as templates write it: "{int}"; empty for SlotNone.
func (t SlotType) String() string {
	if t < slotTypes {
		return slotNames[t]
	}
	return "{?}"
}

// slotNamed reads what String writes.
func slotNamed(s string) SlotType {
	for t := SlotInt; t < slotTypes; t++ {
		if slotNames[t] == s {
			return t
		}
	}
	return SlotNone
}

// token reports whether values of t are opaque strings that SlotStr may stand
// for: one family of ids can give several of these types by chance.
func (t SlotType) token() bool {
	return t == SlotMixed || t == SlotB64 || t == SlotHex || t == SlotULID
}

// Kinds of characters; digit, lower and upper alternate like noise in tokens.
const (
	charOther = iota
	charDigit
	charLowerHex
	charLower
	charUpperHex
	charUpper
	charDash
	charUnderscore
	charDot
	charColon
	charAt
	charPlus
	charBase64 // =, ~
	charEscape
	charKinds
)

var charKindOf = func() (t [256]uint8) {
	for c := '0'; c <= '9'; c++ {
		t[c] = charDigit
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-32] = charLower, charUpper
		if c <= 'f' {
			t[c], t[c-32] = charLowerHex, charUpperHex
		}
	}
	t['-'], t['_'], t['.'], t[':'], t['@'], t['+'] = charDash, charUnderscore, charDot, charColon, charAt, charPlus
	t['='], t['~'], t['%'] = charBase64, charBase64, charEscape
	return t
}()

// charCase folds the kinds that alternate in tokens to 1, 2, 3; others to 0.
var charCase = [charKinds]uint8{charDigit: 1, charLowerHex: 2, charLower: 2, charUpperHex: 3, charUpper: 3}

// slotTypeOf says what s looks like, SlotNone for a word. s is a segment in
// canonical form: every % begins an escape.
func slotTypeOf(s string) SlotType {
	n := len(s)
	if n == 0 {
		return SlotNone
	}
	if n >= 20 && s[:3] == "eyJ" && isJWT(s) {
		return SlotJWT
	}
	if n == 36 && isUUID(s) {
		return SlotUUID
	}
	if n > maxSegment {
		return SlotLong
	}
	var c [charKinds]uint8
	var before uint8
	changes := 0
	for i := 0; i < n; i++ {
		k := charKindOf[s[i]]
		c[k]++
		if k == charEscape {
			i += 2
		}
		group := charCase[k]
		if group != before && group != 0 && before != 0 {
			changes++
		}
		before = group
	}
	digits := int(c[charDigit])
	hex := digits + int(c[charLowerHex]) + int(c[charUpperHex])
	letters := hex - digits + int(c[charLower]) + int(c[charUpper])
	switch {
	case digits == 0 && n < 16:
		if c[charAt] == 1 && isEmail(s) {
			return SlotEmail
		}
		if c[charColon] >= 2 && isIPv6(s, &c) {
			return SlotIP
		}
		return SlotNone
	case digits == n:
		if n <= 19 {
			return SlotInt
		}
		return SlotHex
	case s[0] == '-' && digits == n-1 && n <= 20:
		return SlotInt
	case hex == n && n >= 16:
		return SlotHex
	case n >= 10 && s[0] == '0' && s[1] == 'x' && hex == n-1:
		return SlotHex
	case n == 26 && digits+letters == n && digits > 0 && isULID(s):
		return SlotULID
	case c[charAt] == 1 && isEmail(s):
		return SlotEmail
	case c[charDot] == 3 && digits+3 == n:
		if _, ok := parseIPv4(s); ok {
			return SlotIP
		}
	case c[charColon] >= 2 && isIPv6(s, &c):
		return SlotIP
	case s[0] == '+' && digits >= 7 && digits <= 15 && digits+int(c[charDash]+c[charDot])+1 == n:
		return SlotPhone
	}
	if isDate(s) {
		return SlotDate
	}
	if isVersion(s) {
		return SlotNone
	}
	plain := digits + letters + int(c[charDash]+c[charUnderscore]+c[charBase64]+c[charPlus])
	if n >= 20 && plain == n && isNoise(n, digits, changes, &c) {
		return SlotB64
	}
	if n >= 8 && digits >= 3 {
		return SlotMixed
	}
	return SlotNone
}

// isNoise tells base 64 from a title in words. Neighbours of random base 64
// differ in kind (digit, lower, upper) in 64 of 100 places; words, even in
// camel case, in fewer than 40. Letters alone, in 50.
func isNoise(n, digits, changes int, c *[charKinds]uint8) bool {
	if c[charUpper]+c[charUpperHex] == 0 || c[charLower]+c[charLowerHex] == 0 {
		return false
	}
	if digits >= 2 {
		return changes*100 >= n*35
	}
	return changes*100 >= n*45
}

func isUUID(s string) bool {
	if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return false
	}
	for i := 0; i < len(s); i++ {
		switch charKindOf[s[i]] {
		case charDigit, charLowerHex, charUpperHex:
		case charDash:
			if i != 8 && i != 13 && i != 18 && i != 23 {
				return false
			}
		default:
			return false
		}
	}
	return true
}

func isJWT(s string) bool {
	dots := 0
	for i := 0; i < len(s); i++ {
		switch charKindOf[s[i]] {
		case charDot:
			dots++
		case charOther, charColon, charAt, charEscape:
			return false
		}
	}
	return dots == 2
}

func isEmail(s string) bool {
	at := 0
	for s[at] != '@' {
		at++
	}
	for i := at + 2; i < len(s)-1; i++ {
		if s[i] == '.' {
			return at > 0
		}
	}
	return false
}

func isIPv6(s string, c *[charKinds]uint8) bool {
	if int(c[charDigit]+c[charLowerHex]+c[charUpperHex]+c[charColon]+c[charDot]) != len(s) || c[charColon] > 7 {
		return false
	}
	for i := 1; i < len(s); i++ {
		if s[i] == ':' && s[i-1] == ':' {
			return true
		}
	}
	return c[charColon] == 7
}

func isULID(s string) bool {
	upper, lower := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'A' && c <= 'Z':
			upper = true
		case c >= 'a' && c <= 'z':
			lower = true
		}
		switch s[i] | 0x20 {
		case 'i', 'l', 'o', 'u':
			return false
		}
	}
	return s[0] >= '0' && s[0] <= '7' && (!upper || !lower)
}

// isVersion accepts v1, v2.7, v1beta1, 1.2.3: words, however many digits.
func isVersion(s string) bool {
	if len(s) > 12 {
		return false
	}
	digits, dots := 0, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c == '.':
			dots++
		case i == 0 && c|0x20 == 'v' && len(s) > 1 && s[1] >= '0' && s[1] <= '9':
		case s[0]|0x20 == 'v' && i > 1 && (c == '_' || c == '-' || c >= 'a' && c <= 'z'):
		default:
			return false
		}
	}
	return digits > 0 && (s[0]|0x20 == 'v' || dots > 0 && s[len(s)-1] != '.')
}

// isDate accepts 2026-11-22, 2026-11, 22-11-2026, with - . or _, and a time of
// day behind the first form.
func isDate(s string) bool {
	number := func(from, to, low, high int) bool {
		v := 0
		for _, c := range []byte(s[from:to]) {
			if c < '0' || c > '9' {
				return false
			}
			v = v*10 + int(c-'0')
		}
		return v >= low && v <= high
	}
	between := func(i int) bool { return s[i] == '-' || s[i] == '.' || s[i] == '_' }
	switch n := len(s); {
	case n == 7:
		return s[4] == '-' && number(0, 4, 1900, 2100) && number(5, 7, 1, 12)
	case n == 10 && between(2):
		return s[5] == s[2] && number(0, 2, 1, 31) && number(3, 5, 1, 31) && number(6, 10, 1900, 2100)
	case n >= 10 && between(4):
		return s[7] == s[4] && number(0, 4, 1900, 2100) && number(5, 7, 1, 12) && number(8, 10, 1, 31) &&
			(n == 10 || s[10] == 'T' || s[10] == 't')
	}
	return false
}

// isLocale accepts en, pt-BR, zh_Hans, es-419: they look alike and stay words.
func isLocale(s string) bool {
	letters := func(s string) bool {
		for i := 0; i < len(s); i++ {
			if c := s[i] | 0x20; c < 'a' || c > 'z' {
				return false
			}
		}
		return true
	}
	if len(s) < 2 || !letters(s[:2]) {
		return false
	}
	if len(s) == 2 {
		return true
	}
	if s[2] != '-' && s[2] != '_' {
		return false
	}
	rest := s[3:]
	return (len(rest) == 2 || len(rest) == 4) && letters(rest) || rest == "419"
}

// fileExtension is an ending that templates keep.
type fileExtension struct {
	name  string
	asset bool
}

var fileExtensions = func() map[string]fileExtension {
	t := make(map[string]fileExtension)
	for _, e := range [...]string{
		"css", "js", "mjs", "map", "png", "jpg", "jpeg", "gif", "svg", "ico", "webp", "avif", "bmp", "cur", "woff", "woff2", "ttf", "otf", "eot",
		"mp4", "webm", "mp3", "ogg", "m4a", "wav", "mov", "m3u8", "ts", "wasm", "swf",
	} {
		t[e] = fileExtension{e, true}
	}
	for _, e := range [...]string{
		"json", "xml", "html", "htm", "xhtml", "php", "jsp", "asp", "aspx", "do", "action", "cgi", "pdf", "csv", "txt", "rss", "atom", "ics", "vcf",
		"zip", "gz", "tgz", "bz2", "xz", "tar", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "rtf", "md", "yaml", "yml", "log", "ndjson",
	} {
		t[e] = fileExtension{e, false}
	}
	return t
}()

// extensionOf finds a known extension of s and where its dot is.
func extensionOf(s string) (e fileExtension, dot int) {
	var low [5]byte
	for i := len(s) - 1; i > 0 && len(s)-1-i <= len(low); i-- {
		if s[i] != '.' {
			continue
		}
		n := copy(low[:], s[i+1:])
		for j := range low[:n] {
			if c := low[j]; c >= 'A' && c <= 'Z' {
				low[j] = c | 0x20
			}
		}
		return fileExtensions[string(low[:n])], i
	}
	return fileExtension{}, 0
}

// slotOf is the stateless pass over one segment: its type and, where the
// template keeps one, its extension. last says that nothing follows.
func slotOf(s string, last bool) (t SlotType, ext string, asset bool) {
	e, dot := extensionOf(s)
	if e.name == "" {
		return slotTypeOf(s), "", false
	}
	if e.asset && last {
		return SlotFile, e.name, true
	}
	if t = slotTypeOf(s[:dot]); t != SlotNone && t != SlotLong {
		return t, e.name, false
	}
	return slotTypeOf(s), "", false
}

// slotNumber is the value of a decimal segment.
func slotNumber(s string) (v int64, ok bool) {
	neg := len(s) > 1 && s[0] == '-'
	if neg {
		s = s[1:]
	}
	if len(s) == 0 || len(s) > 19 {
		return 0, false
	}
	var u uint64
	for i := 0; i < len(s); i++ {
		d := s[i] - '0'
		if d > 9 {
			return 0, false
		}
		u = u*10 + uint64(d)
	}
	if u > 1<<63-1 {
		return 0, false
	}
	if neg {
		return -int64(u), true
	}
	return int64(u), true
}
