// Mirror reads a capture with weir's own reader, down to requests with their owners
// but without detection, and says how fast: the other side of bench/tcpassembly.
//
//	mirror http.pcap
//	mirror -dump http.pcap           and what it read, one JSON object a request
//	mirror -keylog keys.log http.pcap
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/pprof"
	"time"

	"weir/collector"
	"weir/collector/capture/mirror"
	"weir/collector/capture/tls"
	"weir/pipeline"
)

func main() {
	dump := flag.Bool("dump", false, "write the requests to standard output")
	profile := flag.String("cpuprofile", "", "file to write a profile to")
	keylog := flag.String("keylog", "", "TLS secrets")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "mirror: give a capture file")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *keylog, *profile, *dump); err != nil {
		fmt.Fprintf(os.Stderr, "mirror: %v\n", err)
		os.Exit(1)
	}
}

func run(name, keylog, profile string, dump bool) error {
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	var keys *tls.KeyLog
	if keylog != "" {
		f, err := os.Open(keylog)
		if err != nil {
			return err
		}
		defer f.Close()
		keys = &tls.KeyLog{}
		if err := keys.Read(f); err != nil {
			return err
		}
	}
	start := time.Now()
	n, err := count(name, keys, dump)
	if err != nil {
		return err
	}
	took := time.Since(start).Seconds()
	fmt.Fprintf(os.Stderr, "%d transactions, %.2f s, %.0f a second\n", n, took, float64(n)/took)
	return nil
}

// show writes a request as JSON; names and credentials are tokens.
func show(w *bufio.Writer, r *pipeline.Request) error {
	line, err := json.Marshal(map[string]any{
		"time": r.Time.Std().Format(time.RFC3339Nano), "address": r.Address.String(), "method": r.Method, "host": r.Host, "path": r.Path, "query": r.Query,
		"status": r.Status, "bytes": r.Bytes, "duration_us": r.Duration, "agent": r.Agent, "referer": r.Referer, "operation": r.Operation,
		"account": r.Account, "login_user": r.LoginUser, "ja3": r.JA3, "ja4": r.JA4,
	})
	if err == nil {
		_, err = w.Write(append(line, '\n'))
	}
	return err
}

func count(name string, keys *tls.KeyLog, dump bool) (n int64, err error) {
	out := bufio.NewWriter(os.Stdout)
	private, err := pipeline.PublicKeys()
	if err != nil {
		return 0, err
	}
	id, err := pipeline.NewIdentity(pipeline.DefaultIdentityConfig(), private, nil)
	if err != nil {
		return 0, err
	}
	resolve := func() collector.Identify {
		r := id.NewResolver()
		return func(req *pipeline.Request, f *collector.Fields) { r.Resolve(req, &f.Clear) }
	}
	r := mirror.NewReader(mirror.ReaderConfig{Path: name, NewIdentify: resolve, Keys: keys})
	for {
		b, err := r.Next(context.Background())
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, err
		}
		n += int64(len(b.Requests))
		for i := range b.Requests {
			if dump {
				if err := show(out, &b.Requests[i]); err != nil {
					return 0, err
				}
			}
		}
		r.Release(b)
	}
	sum := r.Summary()
	for _, line := range sum.Lines() {
		fmt.Fprintln(os.Stderr, line)
	}
	return n, errors.Join(r.Close(), out.Flush())
}
