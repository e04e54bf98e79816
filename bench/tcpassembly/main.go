// Tcpassembly reads a capture the obvious way: gopacket's layers, its tcpassembly, and
// net/http's readers of requests and responses, a goroutine for each direction. It is
// what weir's own reader is measured against.
//
//	tcpassembly http.pcap
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
	"github.com/google/gopacket/tcpassembly"
	"github.com/google/gopacket/tcpassembly/tcpreader"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "tcpassembly: give a capture file")
		os.Exit(2)
	}
	start := time.Now()
	n, err := count(os.Args[1])
	if err != nil {
		fmt.Fprintf(os.Stderr, "tcpassembly: %v\n", err)
		os.Exit(1)
	}
	took := time.Since(start).Seconds()
	fmt.Printf("%d transactions, %.2f s, %.0f a second\n", n, took, float64(n)/took)
}

// counter makes a reader for each direction of each connection.
type counter struct {
	wg                  sync.WaitGroup
	requests, responses atomic.Int64
}

func (c *counter) New(_, transport gopacket.Flow) tcpassembly.Stream {
	r := tcpreader.NewReaderStream()
	c.wg.Add(1)
	fromServer := transport.Src().String() == "80"
	go c.read(&r, fromServer)
	return &r
}

func (c *counter) read(r *tcpreader.ReaderStream, fromServer bool) {
	defer c.wg.Done()
	buf := bufio.NewReader(r)
	for {
		if fromServer {
			resp, err := http.ReadResponse(buf, nil)
			if err != nil {
				break
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			c.responses.Add(1)
			continue
		}
		req, err := http.ReadRequest(buf)
		if err != nil {
			break
		}
		_, _ = io.Copy(io.Discard, req.Body)
		_ = req.Body.Close()
		c.requests.Add(1)
	}
	_, _ = io.Copy(io.Discard, buf)
}

func count(name string) (int64, error) {
	f, err := os.Open(name)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r, err := pcapgo.NewReader(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return 0, err
	}
	c := &counter{}
	assembler := tcpassembly.NewAssembler(tcpassembly.NewStreamPool(c))
	for {
		data, info, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		p := gopacket.NewPacket(data, r.LinkType(), gopacket.DecodeOptions{Lazy: true, NoCopy: true})
		if tcp, ok := p.TransportLayer().(*layers.TCP); ok && p.NetworkLayer() != nil {
			assembler.AssembleWithTimestamp(p.NetworkLayer().NetworkFlow(), tcp, info.Timestamp)
		}
	}
	assembler.FlushAll()
	c.wg.Wait()
	return min(c.requests.Load(), c.responses.Load()), nil
}
