package collector

import "bytes"

// Logs whose columns a header names. A header counts until the next one, also in
// the middle of a file, where servers write it when they start:
//
//	IIS         #Fields: date time s-ip cs-method cs-uri-stem cs-uri-query s-port cs-username c-ip cs(User-Agent) cs(Referer) sc-status ...
//	            2018-01-01 08:09:10 127.0.0.1 GET / q=100 80 - 192.0.2.1 Mozilla/5.0+(Windows) - 200 0 0 123
//	CloudFront  the same with tabs, more columns, and %20 where IIS has +
//	Zeek        #fields	ts	uid	id.orig_h	id.orig_p	...
//
// Without a header the columns are the stock ones; IIS has none, and its lines
// are read by their shape: what stands around the method and the status.
// IIS and CloudFront write UTC.

// columnKind is a family of such logs.
type columnKind uint8

const (
	columnsIIS columnKind = iota
	columnsCloudFront
	columnsZeek
)

const (
	cloudFrontColumns = "date\ttime\tx-edge-location\tsc-bytes\tc-ip\tcs-method\tcs(Host)\tcs-uri-stem\tsc-status\tcs(Referer)\tcs(User-Agent)\t" +
		"cs-uri-query\tcs(Cookie)\tx-edge-result-type\tx-edge-request-id\tx-host-header\tcs-protocol\tcs-bytes\ttime-taken\tx-forwarded-for\t" +
		"ssl-protocol\tssl-cipher\tx-edge-response-result-type\tcs-protocol-version\tfle-status\tfle-encrypted-fields\tc-port\t" +
		"time-to-first-byte\tx-edge-detailed-result-type\tsc-content-type\tsc-content-len\tsc-range-start\tsc-range-end"
	zeekColumns = "ts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\ttrans_depth\tmethod\thost\turi\treferrer\tversion\tuser_agent\torigin\t" +
		"request_body_len\tresponse_body_len\tstatus_code\tstatus_msg\tinfo_code\tinfo_msg\ttags\tusername\tpassword\tproxied\t" +
		"orig_fuids\torig_filenames\torig_mime_types\tresp_fuids\tresp_filenames\tresp_mime_types"
)

func iisFormat(opt ParseOptions) Format {
	return columnsFormat("iis", "IIS and other W3C extended logs, columns as #Fields says", columnsIIS, opt)
}

func cloudFrontFormat(opt ParseOptions) Format {
	return columnsFormat("cloudfront", "Amazon CloudFront, standard logs with tabs", columnsCloudFront, opt)
}

func zeekColumnsFormat(opt ParseOptions) Format {
	return columnsFormat("zeek", "Zeek http.log, in columns or as JSON", columnsZeek, opt)
}

func columnsFormat(name, describe string, kind columnKind, opt ParseOptions) Format {
	return Format{
		Name:     name,
		Describe: describe,
		New: func() Parser {
			p := &columnParser{kind: kind, clock: newClock(opt.Location)}
			switch kind {
			case columnsCloudFront:
				_ = p.header([]byte(cloudFrontColumns)) // what we wrote is one
			case columnsZeek:
				_ = p.header([]byte(zeekColumns))
			}
			return p
		},
		ClientPrefix: func([]byte) []byte { return nil }, // the header is not here
		Carry:        carryHeader,
	}
}

// carryHeader keeps the last line that names columns, and the last date.
func carryHeader(before, data []byte) []byte {
	if bytes.IndexByte(data, '#') < 0 {
		return before
	}
	for _, prefix := range [...]string{"#Date:", "#Fields:", "#fields"} {
		i := bytes.LastIndex(data, []byte("\n"+prefix)) + 1
		if i == 0 && !bytes.HasPrefix(data, []byte(prefix)) {
			continue
		}
		line := data[i:]
		if end := bytes.IndexByte(line, '\n'); end >= 0 {
			line = line[:end+1]
		}
		before = append(dropLine(before, prefix), line...)
		if n := len(before); before[n-1] != '\n' {
			before = append(before, '\n')
		}
	}
	return before
}

// dropLine takes the line that begins with prefix out of lines, in place.
func dropLine(lines []byte, prefix string) []byte {
	out := lines[:0]
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\n') + 1
		if end == 0 {
			end = len(lines)
		}
		if !bytes.HasPrefix(lines, []byte(prefix)) {
			out = append(out, lines[:end]...)
		}
		lines = lines[end:]
	}
	return out
}

// maxColumns is how many columns are looked at.
const maxColumns = 128

// Columns that are no slot.
const (
	columnDate slot = slots + iota
	columnClock
	columnSubstatus
	columnProxied // Zeek's: a set of "HEADER -> value"
)

type columnParser struct {
	kind    columnKind
	clock   clock
	columns []slot // of the last header; nil when there was none
	day     []byte // of the last #Date, for logs without a date in their lines
	values  [maxColumns][]byte
	at      [columnProxied + 1]int // column of each slot in this line, from 1
}

// Parse implements Parser.
func (p *columnParser) Parse(f *Fields, line []byte) error { return parseLine(p, f, line) }

func (p *columnParser) parse(f *Fields, line []byte) Reject {
	if line[0] == '#' {
		return p.directive(line)
	}
	n := p.split(line)
	columns := p.columns
	var guessed [maxColumns]slot
	if columns == nil {
		if !guessIIS(p.values[:n], &guessed) {
			return RejectFormat
		}
		columns = guessed[:n]
	}
	if n < len(columns) || n > len(columns)+1 { // some writers end a line with the separator
		return RejectFormat
	}
	clear(p.at[:])
	for i, s := range columns {
		v := p.values[i]
		if s != slotNone && len(v) > 0 && (len(v) != 1 || v[0] != '-') && string(v) != "(empty)" && p.at[s] == 0 {
			p.at[s] = i + 1
		}
	}
	return p.fill(f)
}

// get returns the value of s in this line.
func (p *columnParser) get(s slot) []byte {
	if i := p.at[s]; i > 0 {
		return p.values[i-1]
	}
	return nil
}

// fill stores the values in the order of their slots.
func (p *columnParser) fill(f *Fields) Reject {
	escaped := p.kind == columnsZeek
	if v := p.get(slotTime); v != nil {
		t, ok := p.clock.any(v)
		if !ok {
			return RejectTime
		}
		f.Time, f.HasTime = t, true
	} else if v = p.get(columnClock); v != nil {
		day := p.get(columnDate)
		if day == nil {
			day = p.day
		}
		var stamp [32]byte
		b := append(append(append(stamp[:0], day[:min(len(day), 10)]...), ' '), v[:min(len(v), 20)]...)
		t, n, ok := p.clock.iso(b)
		if !ok || n != len(b) {
			return RejectTime
		}
		f.Time, f.HasTime = t, true
	}
	for s := slotNone + 1; s < slots; s++ {
		v := p.get(s)
		if v == nil {
			continue
		}
		switch {
		case s == slotTime:
			continue
		case s == slotStatus && string(v) == "000": // CloudFront's for a client that left
			continue
		case s == slotAgent && p.kind == columnsIIS:
			f.Agent = f.spaced(v)
			continue
		case s == slotCookies && p.kind == columnsIIS:
			v = view(f.spaced(v))
		}
		if r := f.store(s, v, escaped); r != "" {
			return r
		}
	}
	if v := p.get(columnProxied); v != nil {
		const xff = "X-FORWARDED-FOR -> "
		if i := bytes.Index(v, []byte(xff)); i >= 0 {
			if v = v[i+len(xff):]; bytes.IndexByte(v, ',') > 0 {
				v, _, _ = bytes.Cut(v, []byte(",")) // the set's own comma; inside values they are \x2c
			}
			f.Forwarded = f.text(v, true)
		}
	}
	if v := p.get(columnSubstatus); v != nil {
		sub, _ := integer(v)
		f.Blocked = f.Status == 404 && sub >= 5 && sub <= 20 || f.Status == 403 && (sub == 6 || sub == 8 || sub >= 501 && sub <= 503)
	}
	if f.Method == "" && f.Path == "" && f.Status == 0 {
		return RejectRequest
	}
	return ""
}

// spaced returns v with a space for each '+', as IIS writes headers.
func (f *Fields) spaced(v []byte) string {
	if bytes.IndexByte(v, '+') < 0 {
		return f.text(v, false)
	}
	from := len(f.Scratch)
	for _, c := range v {
		if c == '+' {
			c = ' '
		}
		f.Scratch = append(f.Scratch, c)
	}
	return str(f.Scratch[from:len(f.Scratch):len(f.Scratch)])
}

// split cuts a line into values and returns how many there are.
func (p *columnParser) split(line []byte) int {
	sep := byte('\t')
	if p.kind == columnsIIS {
		sep = ' '
	}
	n := 0
	for n < maxColumns-1 {
		i := bytes.IndexByte(line, sep)
		if i < 0 {
			break
		}
		p.values[n] = line[:i]
		line = line[i+1:]
		n++
	}
	p.values[n] = line
	return n + 1
}

// directive reads a line that begins with '#'.
func (p *columnParser) directive(line []byte) Reject {
	switch {
	case bytes.HasPrefix(line, []byte("#Fields:")):
		return p.header(line[len("#Fields:"):])
	case bytes.HasPrefix(line, []byte("#fields\t")) && p.kind == columnsZeek:
		return p.header(line[len("#fields\t"):])
	case bytes.HasPrefix(line, []byte("#Date: ")):
		p.day = append(p.day[:0], line[len("#Date: "):min(len(line), len("#Date: ")+10)]...)
	}
	return SkipLine
}

// header takes the names of columns. W3C separates them by spaces, whatever
// stands between the values.
func (p *columnParser) header(names []byte) Reject {
	p.columns = p.columns[:0]
	for len(names) > 0 && len(p.columns) < maxColumns {
		end := bytes.IndexAny(names, " \t")
		if end < 0 {
			end = len(names)
		}
		switch {
		case end == 0: // before the first
		case p.kind == columnsZeek:
			p.columns = append(p.columns, zeekColumn(names[:end]))
		default:
			p.columns = append(p.columns, w3cColumn(p.kind, names[:end]))
		}
		names = names[min(end+1, len(names)):]
	}
	return SkipLine
}

// w3cColumn is what a column of a W3C log holds.
func w3cColumn(kind columnKind, name []byte) slot {
	var buf [jsonKey]byte
	if len(name) > len(buf) {
		return slotNone
	}
	low := appendLower(buf[:0], name)
	switch string(low) {
	case "date":
		return columnDate
	case "time":
		return columnClock
	case "timestamp", "timestamp(ms)":
		return slotTime
	case "c-ip":
		return slotRemote
	case "x-forwarded-for":
		return slotForwarded
	case "cs-username":
		return slotUser
	case "cs-method":
		return slotMethod
	case "cs-uri-stem":
		return slotPath
	case "cs-uri-query":
		return slotQuery
	case "cs-uri":
		return slotTarget
	case "cs-version", "cs-protocol-version":
		return slotProtocol
	case "cs-host", "x-host-header":
		return slotHost
	case "cs(host)":
		if kind == columnsCloudFront {
			return slotServerName // the distribution's
		}
		return slotHost
	case "cs(user-agent)":
		if kind == columnsCloudFront {
			return slotAgentEncoded
		}
		return slotAgent
	case "cs(referer)":
		if kind == columnsCloudFront {
			return slotRefererEncoded
		}
		return slotReferer
	case "sc-status":
		return slotStatus
	case "sc-substatus":
		return columnSubstatus
	case "sc-bytes":
		return slotBytesSent
	case "sc-content-len":
		return slotBytes
	case "time-taken":
		return slotDuration // IIS counts in milliseconds, CloudFront in seconds with a point
	case "x-edge-request-id":
		return slotRequestID
	}
	if inner, ok := bytes.CutPrefix(low, []byte("cs(")); ok && len(inner) > 1 {
		return headerSlot(str(inner[:len(inner)-1]))
	}
	return slotNone
}

// zeekColumn is what a column of http.log holds.
func zeekColumn(name []byte) slot {
	switch string(name) {
	case "ts":
		return slotTime
	case "id.orig_h":
		return slotRemote
	case "method":
		return slotMethod
	case "host":
		return slotHost
	case "uri":
		return slotTarget
	case "version":
		return slotProtocol
	case "user_agent":
		return slotAgent
	case "referrer":
		return slotReferer
	case "status_code":
		return slotStatus
	case "response_body_len":
		return slotBytes
	case "username":
		return slotUser
	case "proxied":
		return columnProxied
	case "ja3":
		return slotJA3
	case "ja4":
		return slotJA4
	}
	return slotNone
}

// guessIIS tells what the values of a line without header are, in the orders
// that IIS can write them: date time [names s-ip] method stem query [port] user
// c-ip [version] [agent] [cookie] [referer] [host] status substatus win32
// [sc-bytes cs-bytes] [time-taken] [c-ip of a proxy's client].
func guessIIS(v [][]byte, out *[maxColumns]slot) bool {
	if len(v) < 8 || len(v[0]) != 10 || v[0][4] != '-' || len(v[1]) < 8 || v[1][2] != ':' {
		return false
	}
	out[0], out[1] = columnDate, columnClock
	m := 2
	for m < min(len(v), 6) && (!isUpperWord(v[m]) || m+1 >= len(v) || len(v[m+1]) == 0 || v[m+1][0] != '/') {
		m++
	}
	if m+5 >= len(v) || !isUpperWord(v[m]) {
		return false
	}
	out[m], out[m+1], out[m+2] = slotMethod, slotPath, slotQuery
	i := m + 3
	if _, port := integer(v[i]); port {
		i++
	}
	if i+1 >= len(v) || !isAddress(v[i+1]) && string(v[i+1]) != "-" {
		return false
	}
	out[i], out[i+1] = slotUser, slotRemote
	i += 2
	from := i
	for ; i+2 < len(v); i++ { // three numbers together
		if len(v[i]) == 3 && isDigits(v[i]) && isDigits(v[i+1]) && isDigits(v[i+2]) {
			break
		}
	}
	if i+2 >= len(v) {
		return false
	}
	out[i], out[i+1] = slotStatus, columnSubstatus
	headers := v[from:i]
	if len(headers) > 0 && bytes.HasPrefix(headers[0], []byte("HTTP/")) {
		out[from] = slotProtocol
		from, headers = from+1, headers[1:]
	}
	if len(headers) > 0 {
		out[from] = slotAgent
		for j := 1; j < len(headers); j++ {
			if schemeLen(headers[j]) > 0 {
				out[from+j] = slotReferer
			}
		}
	}
	i += 3
	n := i
	for n < len(v) && isDigits(v[n]) {
		n++
	}
	switch n - i {
	case 1:
		out[i] = slotDuration
	case 2:
		out[i] = slotBytesSent
	case 3:
		out[i], out[i+2] = slotBytesSent, slotDuration
	}
	if n < len(v) && isForwardedList(v[n]) {
		out[n] = slotForwarded
	}
	return true
}

func isDigits(b []byte) bool {
	_, ok := integer(b)
	return ok
}
