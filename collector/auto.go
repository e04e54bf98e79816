package collector

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Detection is what Detect made of an input.
type Detection struct {
	Format     *Format // nil: nothing reads it
	Confidence float64 // share of the sample's lines that Format reads, 0 to 1
	Chosen     string  // one sentence for people when there is a Format
	Problem    string  // one sentence for people when there is none
	Remedy     string  // what to do, a flag where one helps
}

// detectLines is how many lines Detect looks at, detectShare the share of them
// that a format must read to be chosen.
const (
	detectLines = 200
	detectShare = 0.5
)

// Detect finds the format of an input by its first lines, of which the first
// 200 count. The sample holds raw lines, before any decoding.
func Detect(sample [][]byte, opt ParseOptions) Detection { return detect(sample, opt, false) }

// detect does it; inside tells that the lines were wrapped, which they are once.
func detect(sample [][]byte, opt ParseOptions, inside bool) Detection {
	lines := make([][]byte, 0, min(len(sample), detectLines))
	for _, l := range sample[:min(len(sample), detectLines)] {
		l, _ = admit(l)
		if l = bytes.TrimRight(l, "\r\n"); len(bytes.TrimSpace(l)) == 0 {
			continue
		}
		n := len(lines)
		if l[0] == '[' {
			for e := range elements(l) {
				if lines = append(lines, e); len(lines)-n == 4 {
					break
				}
			}
		}
		if n == len(lines) {
			lines = append(lines, l)
		}
	}
	if d := notText(sample, lines); d.Problem != "" {
		return d
	}
	best := Detection{}
	parsed, rest := 0, len(lines)
	for _, f := range candidates(opt, lines) {
		if n, skipped := countParsed(f, lines); n > parsed {
			parsed, rest = n, len(lines)-skipped
			best.Format = &f
		}
	}
	share := float64(parsed) / float64(rest)
	if best.Format != nil && share >= detectShare {
		best.Confidence = share
		best.Chosen = fmt.Sprintf("%s: %d of %d lines", title(best.Format.Name), parsed, rest) + alsoReads(best.Format.Name, parsed, lines, opt)
		return best
	}
	if !inside {
		if d, ok := detectWrapped(lines, opt); ok {
			return d
		}
	}
	if d := otherKind(lines); d.Problem != "" {
		return d
	}
	d := Detection{Problem: fmt.Sprintf("no known format reads any of the first %d lines", len(lines))}
	if best.Format != nil {
		d.Problem = fmt.Sprintf("no known format reads it: the best, %s, took %d of the first %d lines", best.Format.Name, parsed, len(lines))
	}
	layout, noClient := propose(lines)
	if layout == "" {
		d.Remedy = "say how lines are laid out with --log-format, in the words of your nginx log_format or Apache LogFormat; or --format " + formatNames("|")
		return d
	}
	d.Remedy = "--log-format " + shellQuote(layout)
	if noClient {
		d.Problem += "; its lines carry no client address, so clients can be told apart by session or user only"
	}
	return d
}

// candidates are the formats Detect tries. Of two that read as many lines the
// first is taken, so the narrow ones come first.
func candidates(opt ParseOptions, lines [][]byte) []Format {
	j, err := CompileJSON(opt)
	if err != nil {
		j = jsonFormat(nil, ParseOptions{Location: opt.Location})
	}
	list := narrowFormats(opt)
	list = append(list, commonFormat(opt), combinedFormat(opt), vhostFormat(opt))
	if len(opt.Map) == 0 { // who names members has no preset in mind
		list = append(list, presetsFor(opt, lines)...)
	}
	return append(list, j)
}

// countParsed returns how many lines f reads, and how many are neither requests
// nor faults to it.
func countParsed(f Format, lines [][]byte) (parsed, skipped int) {
	p := f.New()
	var fields Fields
	for _, l := range lines {
		switch err := p.Parse(&fields, l); {
		case err == nil:
			parsed++
		case errors.Is(err, SkipLine):
			skipped++
		}
	}
	return parsed, skipped
}

func title(name string) string {
	switch name {
	case "common":
		return "common (Apache)"
	case "combined":
		return "combined (nginx/Apache)"
	case "vhost_combined":
		return "vhost_combined (Apache)"
	case "json":
		return "json (one object a line)"
	case "aws_alb":
		return "aws_alb (load balancer)"
	case "iis":
		return "iis (W3C extended)"
	}
	return name
}

// notText finds inputs that are no lines of text.
func notText(sample, lines [][]byte) Detection {
	if len(lines) == 0 {
		return Detection{Problem: "the input is empty", Remedy: "give a file with requests in it, or - for standard input"}
	}
	first := sample[0]
	for _, magic := range [...]struct{ bytes, problem, remedy string }{
		{"\x1f\x8b", "the input is gzip data that was not unpacked", "name the file .gz, or pipe it through zcat"},
		{"\x28\xb5\x2f\xfd", "the input is zstd data that was not unpacked", "name the file .zst, or pipe it through zstdcat"},
		{"BZh", "the input is bzip2 data", "pipe it through bzcat"},
		{"\xfd7zXZ\x00", "the input is xz data", "pipe it through xzcat"},
		{"PK\x03\x04", "the input is a zip archive", "unpack it first"},
		{"\xd4\xc3\xb2\xa1", "the input is a packet capture", "name the file .pcap"},
		{"\xa1\xb2\xc3\xd4", "the input is a packet capture", "name the file .pcap"},
		{"\x0a\x0d\x0d\x0a", "the input is a packet capture", "name the file .pcapng"},
		{"SQLite format 3\x00", "the input is an SQLite database", "give the log itself"},
	} {
		if bytes.HasPrefix(first, []byte(magic.bytes)) {
			return Detection{Problem: magic.problem, Remedy: magic.remedy}
		}
	}
	utf16, nul := false, 0
	for _, l := range sample[:min(len(sample), detectLines)] {
		if len(l) >= 2 && (l[0] == 0xff && l[1] == 0xfe || l[0] == 0xfe && l[1] == 0xff) || isUTF16(l) {
			utf16 = true
		}
		if bytes.IndexByte(l, 0) >= 0 {
			nul++
		}
	}
	switch {
	case utf16:
		return Detection{Problem: "the input is UTF-16 text", Remedy: "pipe it through iconv -f UTF-16 -t UTF-8"}
	case nul*2 > len(lines):
		return Detection{Problem: "the input is binary: it has NUL bytes", Remedy: "give an access log as text, or a capture as .pcap"}
	}
	return Detection{}
}

// otherKind names kinds of log that weir can tell but does not read.
func otherKind(lines [][]byte) Detection {
	first := lines[0]
	unknown := func(what, remedy string) Detection {
		return Detection{Problem: "the input looks like " + what + ", which weir does not read", Remedy: remedy}
	}
	json := 0
	for _, l := range lines {
		if bytes.HasPrefix(bytes.TrimSpace(l), []byte("{")) {
			json++
		}
	}
	switch {
	case json*2 > len(lines) && bytes.Contains(first, []byte(`"log":"`)):
		return unknown("a container engine's log around lines of no known format", "unwrap it and see: jq -j .log FILE | weir analyze -")
	case json*2 > len(lines):
		return unknown("JSON whose members are no request's", "name the members in the format's map: method, path, status, remote, time; or give the access log")
	case bytes.HasPrefix(first, []byte("#Software:")) || bytes.HasPrefix(first, []byte("#Version:")) || bytes.HasPrefix(first, []byte("#Fields:")):
		return unknown("a W3C extended log without requests", "log cs-method, cs-uri-stem, sc-status and c-ip among its #Fields")
	case bytes.HasPrefix(first, []byte("#separator")):
		return unknown("a Zeek log other than http.log", "give http.log, or the capture itself")
	case bytes.HasPrefix(first, []byte("[")) && len(bytes.TrimSpace(first)) == 1:
		return unknown("one JSON array over many lines", "write one object a line: jq -c '.[]' FILE | weir analyze -")
	case first[0] == '<' && bytes.IndexByte(first[:min(len(first), 6)], '>') > 0, share(lines, isSyslog):
		return unknown("syslog messages", "strip what syslog puts before the request, or collect it with a syslog input")
	case share(lines, isErrorLog):
		return unknown("a server's error log", "give its access log")
	case share(lines, isLoadBalancer):
		return unknown("a load balancer's log (AWS)", "write it as JSON lines, or in a layout --log-format can say")
	case separated(lines, '\t'):
		return unknown("a table with tabs between its columns", "write it as JSON lines, or give --log-format with the tabs in it")
	case separated(lines, ','):
		return unknown("a table with commas between its columns (CSV)", "write it as JSON lines")
	}
	return Detection{}
}

// share tells whether most lines are so.
func share(lines [][]byte, is func([]byte) bool) bool {
	n := 0
	for _, l := range lines {
		if is(l) {
			n++
		}
	}
	return n*2 > len(lines)
}

// isSyslog: "Nov 14 22:45:27 host program[12]: ".
func isSyslog(l []byte) bool {
	if len(l) < 20 || l[3] != ' ' || l[6] != ' ' || l[9] != ':' || l[12] != ':' || l[15] != ' ' {
		return false
	}
	_, ok := monthOf(l)
	return ok
}

// isErrorLog: "2021/04/01 13:02:31 [error] " or "[Tue Jul 22 06:48:30 2008] [error] ".
func isErrorLog(l []byte) bool {
	l = l[:min(len(l), 120)]
	for _, level := range [...]string{"error]", "warn]", "notice]", "crit]", "alert]", "emerg]", "info]", "debug]"} {
		if i := bytes.Index(l, []byte(level)); i > 0 && bytes.IndexByte(l[:i], '"') < 0 {
			return true
		}
	}
	return false
}

// isLoadBalancer: "h2 2018-07-02T22:23:00.186641Z app/name/50dc6c495c0c9188 ".
func isLoadBalancer(l []byte) bool {
	w := bytes.Fields(l[:min(len(l), 200)])
	return len(w) > 3 && len(w[0]) <= 5 && len(w[1]) > 20 && w[1][10] == 'T' && bytes.HasPrefix(w[2], []byte("app/"))
}

// separated tells whether every line has the same number, four or more, of
// columns.
func separated(lines [][]byte, sep byte) bool {
	n := bytes.Count(lines[0], []byte{sep})
	for _, l := range lines {
		if bytes.Count(l, []byte{sep}) != n {
			return false
		}
	}
	return n >= 3
}

// shellQuote quotes s for a POSIX shell.
func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// narrowFormats returns the text formats that are tried before the common ones:
// they read no line that those read well.
func narrowFormats(opt ParseOptions) []Format {
	istio, err := compileEnvoy(istioDefault)
	if err != nil {
		panic(err) // a test compiles it
	}
	return []Format{
		haproxyFormat(opt), istio.format("istio", "Istio", opt), envoyFormat("envoy", "Envoy", opt), albFormat(opt),
		cloudFrontFormat(opt), iisFormat(opt), zeekColumnsFormat(opt), modSecurityFormat(opt), apiGatewayFormat(opt),
	}
}

// alsoReads names a format that reads the same lines as a common one that was
// chosen, and more of each.
func alsoReads(chosen string, parsed int, lines [][]byte, opt ParseOptions) string {
	if chosen != "combined" {
		return ""
	}
	for _, f := range [...]struct {
		Format
		more string
	}{
		{ingressFormat(opt), "with the requests' ids"},
		{traefikFormat(opt), "which knows its columns"},
	} {
		if n, _ := countParsed(f.Format, lines); n == parsed {
			return "; --format " + f.Name + " reads them, too, " + f.more
		}
	}
	return ""
}
