package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
)

// runClient sends n requests over keep-alive connections: gets of several sizes,
// compressed or not, bodies with a length, in chunks and gzipped, logins, HEAD.
func runClient(o *options) error {
	address := o.client
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, o.workers)
	var protocols http.Protocols
	protocols.SetHTTP1(!o.h2)
	protocols.SetHTTP2(o.h2 && o.tls)
	protocols.SetUnencryptedHTTP2(o.h2 && !o.tls)
	config, scheme := &tls.Config{}, "http"
	if o.tls {
		log, err := os.OpenFile(o.keys, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		defer log.Close()
		config, scheme = &tls.Config{InsecureSkipVerify: true, KeyLogWriter: log}, "https"
	}
	for range o.workers {
		wg.Go(func() {
			dialer := &net.Dialer{}
			client := &http.Client{
				Transport: &http.Transport{
					DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
						return dialer.DialContext(ctx, "tcp", address)
					},
					DisableCompression: true, MaxIdleConnsPerHost: 1, Protocols: &protocols, TLSClientConfig: config,
				},
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}
			for {
				i := next.Add(1)
				if i > int64(o.n) {
					return
				}
				if err := exchange(client, scheme+"://"+address, int(i)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}

func exchange(client *http.Client, server string, i int) error {
	method, path := "GET", []string{"/small.html", "/page.html", "/api/v1/orders/", "/gone/", "/moved/", "/large.bin"}[i%23%6]
	var body io.Reader
	header := http.Header{"User-Agent": {fmt.Sprintf("wire/%d", i%7)}}
	if strings.HasSuffix(path, "/") {
		path += fmt.Sprint(i)
	}
	query := fmt.Sprintf("n=%d", i)
	switch i % 11 {
	case 1:
		method, path, body = "POST", "/api/v1/cart", strings.NewReader(fmt.Sprintf(`{"sku":"A-%d"}`, i))
		header.Set("Content-Type", "application/json")
	case 2: // in chunks: the length is not known
		method, path, body = "POST", "/api/v1/upload", io.MultiReader(strings.NewReader(strings.Repeat("chunk ", i%5000)), strings.NewReader("end"))
	case 3:
		method, path, query = "POST", "/login", fmt.Sprintf("n=%d&u=user%d", i, i%1000)
		body = strings.NewReader(fmt.Sprintf("username=user%d&password=secret", i%1000))
		header.Set("Content-Type", "application/x-www-form-urlencoded")
	case 4:
		method, path, query = "POST", "/login", fmt.Sprintf("n=%d&u=user%d", i, i%1000)
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		fmt.Fprintf(z, `{"user":{"email":"user%d"},"password":"secret"}`, i%1000)
		_ = z.Close()
		body = &b
		header.Set("Content-Type", "application/json")
		header.Set("Content-Encoding", "gzip")
	case 5:
		method = "HEAD"
	case 6, 7:
		header.Set("Accept-Encoding", "gzip")
		header.Set("Referer", "http://shop.example/start")
	case 8:
		header.Set("Expect", "100-continue")
		method, path, body = "PUT", "/api/v1/doc", strings.NewReader(strings.Repeat("x", i%3000))
	}
	r, err := http.NewRequest(method, server+path+"?"+query, body)
	if err != nil {
		return err
	}
	r.Header = header
	r.Host = fmt.Sprintf("shop%d.example", i%3)
	resp, err := client.Do(r)
	if err != nil {
		return fmt.Errorf("request %d: %w", i, err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	return err
}
