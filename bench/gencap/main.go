// Gencap writes a capture of HTTP/1.1 traffic: browsers and API clients on keep-alive
// connections, many of them at once, bodies with a length and in chunks. The same
// seed gives the same bytes.
//
//	gencap -bytes 600000000 -out http.pcap
package main

import (
	"bufio"
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
)

func main() {
	size := flag.Int64("bytes", 600e6, "about how large the capture gets")
	out := flag.String("out", "", "file to write")
	seed := flag.Uint64("seed", 1, "seed")
	flag.Parse()
	if *out == "" {
		fmt.Fprintln(os.Stderr, "gencap: give -out FILE")
		os.Exit(2)
	}
	n, err := generate(*out, *size, *seed)
	if err != nil {
		fmt.Fprintf(os.Stderr, "gencap: %v\n", err)
		os.Exit(1)
	}
	fmt.Printf("%d transactions\n", n)
}

// atOnce is how many connections are open at a time.
const atOnce = 512

// mss is what a segment carries.
const mss = 1448

func generate(name string, size int64, seed uint64) (transactions int64, err error) {
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	g := &generator{w: bufio.NewWriterSize(f, 1<<20), r: rand.New(rand.NewPCG(seed, seed)), now: 1_790_000_000_000_000}
	head := []byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0}
	if _, err = g.w.Write(head); err != nil {
		return 0, err
	}
	open := make([]*conn, atOnce)
	for g.written < size {
		i := g.r.IntN(atOnce)
		if open[i] == nil {
			open[i] = g.open()
			continue
		}
		open[i] = g.step(open[i])
	}
	for _, c := range open {
		for c != nil {
			c = g.step(c)
		}
	}
	if err = g.w.Flush(); err != nil {
		return 0, err
	}
	return g.transactions, f.Close()
}

type generator struct {
	w            *bufio.Writer
	r            *rand.Rand
	now          int64
	written      int64
	ports        uint16
	transactions int64
	frame        []byte
	text         []byte
}

// conn is a connection; its next step is one transaction or its end.
type conn struct {
	client [4]byte
	port   uint16
	seq    [2]uint32
	left   int
	agent  string
	cookie string
}

func (g *generator) open() *conn {
	g.ports++
	c := &conn{
		client: [4]byte{10, byte(g.r.IntN(64)), byte(g.r.IntN(256)), byte(1 + g.r.IntN(254))}, port: 1024 + g.ports%60000,
		seq: [2]uint32{g.r.Uint32(), g.r.Uint32()}, left: 1 + g.r.IntN(24), agent: agents[g.r.IntN(len(agents))],
	}
	if g.r.IntN(3) > 0 {
		c.cookie = fmt.Sprintf("sid=%016x; theme=dark; _ga=GA1.2.%d.%d", g.r.Uint64(), g.r.Uint32(), g.r.Uint32())
	}
	g.packet(c, 0, 2, nil)
	c.seq[0]++
	g.packet(c, 1, 0x12, nil)
	c.seq[1]++
	g.packet(c, 0, 0x10, nil)
	return c
}

// step sends a request and its response, or ends the connection.
func (g *generator) step(c *conn) *conn {
	if c.left == 0 {
		g.packet(c, 0, 0x11, nil)
		c.seq[0]++
		g.packet(c, 1, 0x11, nil)
		c.seq[1]++
		g.packet(c, 0, 0x10, nil)
		return nil
	}
	c.left--
	g.transactions++
	g.text = g.request(g.text[:0], c)
	g.send(c, 0, g.text)
	g.now += int64(500 + g.r.IntN(20000))
	g.text = g.response(g.text[:0])
	g.send(c, 1, g.text)
	return c
}

var agents = []string{
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
	"Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
	"okhttp/4.12.0", "python-requests/2.32.3", "ShopApp/7.3.1 (Android 14)",
}

func (g *generator) request(b []byte, c *conn) []byte {
	id := g.r.IntN(100000)
	switch g.r.IntN(8) {
	case 0:
		body := fmt.Sprintf(`{"items":[{"sku":"A-%d","qty":%d}],"note":"leave it at the door"}`, id, 1+id%5)
		b = fmt.Appendf(b, "POST /api/v1/cart HTTP/1.1\r\nHost: shop.example.com\r\nUser-Agent: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n", c.agent, len(body))
		b = g.common(b, c)
		return append(append(b, "\r\n"...), body...)
	case 1:
		b = fmt.Appendf(b, "GET /search?q=item+%d&page=%d HTTP/1.1\r\n", id, id%9)
	case 2:
		b = fmt.Appendf(b, "GET /static/app.%05d.js HTTP/1.1\r\n", id%50)
	case 3:
		b = fmt.Appendf(b, "GET /api/v1/orders/%d HTTP/1.1\r\n", id)
	default:
		b = fmt.Appendf(b, "GET /p/item-%d HTTP/1.1\r\n", id)
	}
	b = fmt.Appendf(b, "Host: shop.example.com\r\nUser-Agent: %s\r\n", c.agent)
	return append(g.common(b, c), "\r\n"...)
}

func (g *generator) common(b []byte, c *conn) []byte {
	b = append(b, "Accept: text/html,application/json;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\n"+
		"Referer: https://shop.example.com/category/shoes\r\nConnection: keep-alive\r\n"...)
	if c.cookie != "" {
		b = fmt.Appendf(b, "Cookie: %s\r\n", c.cookie)
	}
	return b
}

func (g *generator) response(b []byte) []byte {
	n := int(math.Exp(6.6 + 1.1*g.r.NormFloat64()))
	n = min(max(n, 20), 200000)
	status := "200 OK"
	if g.r.IntN(20) == 0 {
		status = "404 Not Found"
	}
	b = fmt.Appendf(b, "HTTP/1.1 %s\r\nServer: nginx/1.22.1\r\nDate: Sun, 22 Nov 2026 02:57:43 GMT\r\nContent-Type: text/html; charset=utf-8\r\nVary: Accept-Encoding\r\nConnection: keep-alive\r\n", status)
	if g.r.IntN(4) > 0 {
		b = fmt.Appendf(b, "Content-Length: %d\r\n\r\n", n)
		return g.fill(b, n)
	}
	b = append(b, "Transfer-Encoding: chunked\r\n\r\n"...)
	for n > 0 {
		part := min(n, 4096)
		b = fmt.Appendf(b, "%x\r\n", part)
		b = append(g.fill(b, part), "\r\n"...)
		n -= part
	}
	return append(b, "0\r\n\r\n"...)
}

func (g *generator) fill(b []byte, n int) []byte {
	for n >= 8 {
		b = binary.LittleEndian.AppendUint64(b, g.r.Uint64()|0x2020202020202020)
		n -= 8
	}
	for range n {
		b = append(b, '.')
	}
	return b
}

// send sends data in segments; the other side acknowledges every second one.
func (g *generator) send(c *conn, from int, data []byte) {
	for i := 0; len(data) > 0; i++ {
		n := min(len(data), mss)
		g.packet(c, from, 0x18, data[:n])
		c.seq[from] += uint32(n)
		data = data[n:]
		if i%2 == 1 || len(data) == 0 {
			g.packet(c, 1-from, 0x10, nil)
		}
	}
}

// packet writes one packet.
func (g *generator) packet(c *conn, from int, flags byte, payload []byte) {
	g.now += int64(5 + g.r.IntN(30))
	total := 14 + 20 + 32 + len(payload)
	b := g.frame[:0]
	b = binary.LittleEndian.AppendUint32(b, uint32(g.now/1e6))
	b = binary.LittleEndian.AppendUint32(b, uint32(g.now%1e6))
	b = binary.LittleEndian.AppendUint32(b, uint32(total))
	b = binary.LittleEndian.AppendUint32(b, uint32(total))
	b = append(b, 2, 0, 0, 0, 0, byte(1-from), 2, 0, 0, 0, 0, byte(from), 8, 0)
	ip := len(b)
	server := [4]byte{192, 0, 2, 80}
	src, dst, sport, dport := c.client, server, c.port, uint16(80)
	if from == 1 {
		src, dst, sport, dport = dst, src, dport, sport
	}
	b = append(b, 0x45, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(total-14))
	b = append(b, 0, 0, 0x40, 0, 64, 6, 0, 0)
	b = append(append(b, src[:]...), dst[:]...)
	binary.BigEndian.PutUint16(b[ip+10:], ^fold(b[ip:ip+20], 0))
	tcp := len(b)
	b = binary.BigEndian.AppendUint16(b, sport)
	b = binary.BigEndian.AppendUint16(b, dport)
	b = binary.BigEndian.AppendUint32(b, c.seq[from])
	ack := c.seq[1-from]
	if flags == 2 {
		ack = 0
	}
	b = binary.BigEndian.AppendUint32(b, ack)
	b = append(b, 0x80, flags, 0xff, 0xff, 0, 0, 0, 0, 1, 1, 8, 10)
	b = binary.BigEndian.AppendUint32(b, uint32(g.now/1000))
	b = binary.BigEndian.AppendUint32(b, 0)
	b = append(b, payload...)
	pseudo := fold(append(append([]byte{}, src[:]...), dst[:]...), uint32(6+len(b)-tcp))
	binary.BigEndian.PutUint16(b[tcp+16:], ^fold(b[tcp:], uint32(pseudo)))
	g.frame = b
	g.written += int64(len(b))
	_, _ = g.w.Write(b) // the error stays with the writer
}

// fold is the Internet checksum's sum.
func fold(b []byte, sum uint32) uint16 {
	for ; len(b) >= 2; b = b[2:] {
		sum += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) > 0 {
		sum += uint32(b[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}
