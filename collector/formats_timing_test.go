package collector

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

const timingLine = `203.0.113.%d - - [10/Oct/2025:13:%02d:%02d +0200] "GET /products/category/clocks?page=%d&sort=price HTTP/1.1" 200 12326 "https://shop.example/products" "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0"`

func timingLines() [][]byte {
	var out [][]byte
	for i := range 1000 {
		out = append(out, fmt.Appendf(nil, timingLine, i%250, i/60%60, i%60, i))
	}
	return out
}

func benchmark(b *testing.B, f Format, lines [][]byte) {
	b.Helper()
	p := f.New()
	var fields Fields
	size := 0
	for _, l := range lines {
		if err := p.Parse(&fields, l); err != nil {
			b.Fatalf("%v: %s", err, l)
		}
		size += len(l)
	}
	b.SetBytes(int64(size / len(lines)))
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if err := p.Parse(&fields, lines[i]); err != nil {
			b.Fatal(err)
		}
		if i++; i == len(lines) {
			i = 0
		}
	}
}

func BenchmarkCombined(b *testing.B) { benchmark(b, combinedFormat(ParseOptions{}), timingLines()) }

func BenchmarkCombinedRecorded(b *testing.B) {
	benchmark(b, combinedFormat(ParseOptions{}), linesOf(shared(b, "tools_shop", "access.log.gz"))[:8000])
}

func BenchmarkCombinedEscaped(b *testing.B) {
	benchmark(b, combinedFormat(ParseOptions{}), [][]byte{[]byte(
		`203.0.113.7 - - [10/Oct/2025:13:55:36 +0200] "GET /caf\xC3\xA9?q=\x22a\x22 HTTP/1.1" 200 12326 "-" "Mozilla/5.0 \"x\" (X11; Linux x86_64; rv:125.0) Gecko/20100101"`)})
}

func BenchmarkNginxLayout(b *testing.B) {
	f, err := CompileNginx(`$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`, ParseOptions{})
	if err != nil {
		b.Fatal(err)
	}
	benchmark(b, f, timingLines())
}

func BenchmarkJSONRecorded(b *testing.B) {
	benchmark(b, jsonFormat(nil, ParseOptions{}), linesOf(shared(b, "tools_shop", "access.json.gz"))[:4000])
}

func BenchmarkJSONNested(b *testing.B) {
	benchmark(b, jsonFormat(nil, ParseOptions{}), [][]byte{[]byte(caddyLine)})
}

func BenchmarkJSONClientPrefix(b *testing.B) {
	c := jsonFormat(nil, ParseOptions{})
	line := linesOf(shared(b, "tools_shop", "access.json.gz"))[0]
	b.ReportAllocs()
	for b.Loop() {
		c.ClientPrefix(line)
	}
}

// What an attacker's line can cost: every try used up on 8 kB.
func BenchmarkLayoutHostile(b *testing.B) {
	c, err := CompileNginx(`$http_a $http_b $http_c $http_d $status "$request"`, ParseOptions{})
	if err != nil {
		b.Fatal(err)
	}
	p := c.New()
	line := []byte(strings.Repeat("a ", 4096))
	var f Fields
	b.ReportAllocs()
	for b.Loop() {
		_ = p.Parse(&f, line)
	}
}

// BenchmarkGateways reads one line of each text format; BenchmarkObvious the same
// with a regular expression, where one is the usual way.
func BenchmarkGateways(b *testing.B) {
	for name, line := range gatewayLines() {
		b.Run(name, func(b *testing.B) {
			c, err := Named(name, ParseOptions{})
			if err != nil {
				b.Fatal(err)
			}
			benchmark(b, c, [][]byte{[]byte(line)})
		})
	}
}

func BenchmarkGatewaysObvious(b *testing.B) {
	for name, pattern := range map[string]string{
		"haproxy":       `\]: (\S+):\d+ \[([^\]]+)\] \S+ \S+ \S+/\S+/\S+/\S+/\+?(\d+) (\d+) (\d+) \S+ \S+ \S{4} \S+ \S+ .*"(\w+) (\S+) HTTP/(\S+)"`,
		"envoy":         `^\[([^\]]+)\] "(\S+) (\S+) (\S+)" (\d+) (\S+) \d+ (\d+) (\d+) \S+ "([^"]*)" "(.*)" "([^"]*)" "([^"]*)" "[^"]*"$`,
		"aws_alb":       `^(\S+) (\S+) \S+ (\S+) \S+ (\S+) (\S+) (\S+) (\S+) \S+ \d+ (\d+) "([^"]*)" "((?:[^"\\]|\\.)*)" \S+ \S+ \S+ "([^"]*)" "([^"]*)"`,
		"ingress_nginx": `^(\S+) - (\S+) \[([^\]]+)\] "(\S+) (\S+) HTTP/(\S+)" (\d+) (\d+) "([^"]*)" "([^"]*)" \d+ (\S+) .* ([0-9a-f]+)$`,
	} {
		b.Run(name, func(b *testing.B) {
			line := []byte(gatewayLines()[name])
			re := regexp.MustCompile(pattern)
			if re.FindSubmatch(line) == nil {
				b.Fatal("it does not read its line")
			}
			b.SetBytes(int64(len(line)))
			b.ReportAllocs()
			for b.Loop() {
				re.FindSubmatch(line)
			}
		})
	}
}
