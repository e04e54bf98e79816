// Package grpc holds weir's reading of gRPC against a real server and real
// clients. It is a module of its own: weir needs no gRPC.
//
//	cd bench/grpc && go test
package grpc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"weir/collector/capture"
	"weir/collector/capture/h2"
	"weir/pipeline"
)

// call is one line of the server's log, and what must be read of it.
type call struct {
	Method            string
	Agent, Key        string
	Status            string
	Request, Response int64 // messages with their five bytes, as sent
}

type chunk struct {
	dir capture.Direction
	b   []byte
}

type tape struct {
	net.Conn
	mu     sync.Mutex
	chunks []chunk
}

func (c *tape) add(dir capture.Direction, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.chunks = append(c.chunks, chunk{dir, bytes.Clone(b)})
}

func (c *tape) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.add(capture.FromClient, b[:n])
	}
	return n, err
}

func (c *tape) Write(b []byte) (int, error) {
	c.add(capture.FromServer, b)
	return c.Conn.Write(b)
}

type taping struct {
	net.Listener
	mu    sync.Mutex
	tapes []*tape
}

func (l *taping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := &tape{Conn: c}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tapes = append(l.tapes, t)
	return t, nil
}

// service answers with what it is asked for.
type service struct {
	testpb.UnimplementedTestServiceServer
}

func (service) UnaryCall(_ context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if s := in.GetResponseStatus(); s != nil {
		return nil, status.Error(codes.Code(s.GetCode()), s.GetMessage())
	}
	return &testpb.SimpleResponse{Payload: &testpb.Payload{Body: make([]byte, in.GetResponseSize())}}, nil
}

func (service) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, out testpb.TestService_StreamingOutputCallServer) error {
	for _, p := range in.GetResponseParameters() {
		if err := out.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (service) StreamingInputCall(in testpb.TestService_StreamingInputCallServer) error {
	n := 0
	for {
		m, err := in.Recv()
		if errors.Is(err, io.EOF) {
			return in.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		}
		if err != nil {
			return err
		}
		n += len(m.GetPayload().GetBody())
	}
}

func (service) FullDuplexCall(s testpb.TestService_FullDuplexCallServer) error {
	for {
		m, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, p := range m.GetResponseParameters() {
			if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
				return err
			}
		}
	}
}

// logger is the server's log: what grpc itself says of each call.
type logger struct {
	mu    sync.Mutex
	calls []call
}

type callKey struct{}

func (l *logger) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	c := &call{Method: info.FullMethodName}
	if md, ok := metadata.FromIncomingContext(ctx); ok {
		c.Agent, c.Key = strings.Join(md["user-agent"], ""), strings.Join(md["x-api-key"], "")
	}
	return context.WithValue(ctx, callKey{}, c)
}

func (l *logger) HandleRPC(ctx context.Context, s stats.RPCStats) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := ctx.Value(callKey{}).(*call)
	switch s := s.(type) {
	case *stats.InPayload:
		c.Request += int64(s.WireLength)
	case *stats.OutPayload:
		c.Response += int64(s.WireLength)
	case *stats.InHeader:
		if md := s.Header; c.Agent == "" {
			c.Agent, c.Key = strings.Join(md["user-agent"], ""), strings.Join(md["x-api-key"], "")
		}
	case *stats.End:
		c.Status = strconv.Itoa(int(status.Code(s.Error)))
		l.calls = append(l.calls, *c)
	}
}

func (l *logger) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (l *logger) HandleConn(context.Context, stats.ConnStats)                       {}

// traffic runs n calls of all kinds from several connections.
func traffic(t *testing.T, n int) ([]*tape, []call) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	listener, log := &taping{Listener: l}, &logger{}
	server := grpc.NewServer(grpc.StatsHandler(log))
	testpb.RegisterTestServiceServer(server, service{})
	go func() { _ = server.Serve(listener) }()
	var wg sync.WaitGroup
	for worker := range 6 {
		wg.Go(func() {
			conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithUserAgent(fmt.Sprint("shop/", worker)))
			if err != nil {
				t.Error(err)
				return
			}
			client := testpb.NewTestServiceClient(conn)
			var inner sync.WaitGroup
			for lane := range 4 { // of one connection at once
				inner.Go(func() {
					for i := range n / 24 {
						if err := ask(client, i*4+lane); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			inner.Wait()
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	server.GracefulStop()
	return listener.tapes, log.calls
}

func ask(client testpb.TestServiceClient, i int) error {
	ctx := metadata.AppendToOutgoingContext(context.Background(), "x-api-key", fmt.Sprint("key-", i%50))
	body := &testpb.Payload{Body: make([]byte, []int{0, 10, 3000, 100_000}[i%4])}
	var options []grpc.CallOption
	if i%3 == 0 {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	switch i % 5 {
	case 0:
		_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: int32(i % 9000), Payload: body}, options...)
		return err
	case 1:
		_, err := client.UnaryCall(ctx, &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: int32(1 + i%16), Message: "no: ä%"}}, options...)
		if status.Code(err) != codes.Code(1+i%16) {
			return err
		}
		return nil
	case 2:
		s, err := client.StreamingOutputCall(ctx, &testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{{Size: 7}, {Size: 70_000}, {Size: 0}}}, options...)
		for err == nil {
			_, err = s.Recv()
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	case 3:
		s, err := client.StreamingInputCall(ctx, options...)
		if err != nil {
			return err
		}
		for range 5 {
			if err := s.Send(&testpb.StreamingInputCallRequest{Payload: body}); err != nil {
				return err
			}
		}
		_, err = s.CloseAndRecv()
		return err
	}
	_, err := client.EmptyCall(ctx, &testpb.Empty{}) // not implemented
	if status.Code(err) != codes.Unimplemented {
		return err
	}
	return nil
}

// read runs recordings through weir in pieces of at most n bytes.
func read(t *testing.T, tapes []*tape, n int) (got []call) {
	t.Helper()
	var tally capture.Tally
	memory := capture.Memory{Max: 64 << 20}
	conf := &h2.Config{Tally: &tally, Memory: &memory, Emit: func(x *capture.Transaction) {
		if x.Flags&^capture.GRPC != 0 || x.Flags&capture.GRPC == 0 || x.Status != 200 {
			t.Errorf("stream %d: flags %b, status %d", x.Number, x.Flags, x.Status)
		}
		agent, _, _ := strings.Cut(x.Request.Get(capture.TextAgent), " grpc-go/")
		got = append(got, call{
			Method: strings.Clone(x.Request.Get(capture.TextTarget)), Agent: strings.Clone(agent),
			Key: strings.Clone(x.Request.Get(capture.TextAPIKey)), Status: strings.Clone(x.Response.Get(capture.TextGRPCStatus)),
			Request: x.Request.BodyBytes, Response: x.Response.BodyBytes,
		})
	}}
	for _, tape := range tapes {
		p := h2.New(conf, &capture.Flow{}, false)
		at := pipeline.Time(0)
		for _, c := range tape.chunks {
			for b := c.b; len(b) > 0; b = b[min(n, len(b)):] {
				at++
				p.Data(c.dir, at, b[:min(n, len(b))])
			}
		}
		p.Close(capture.FromClient, at, capture.EndFIN)
		p.Close(capture.FromServer, at, capture.EndFIN)
	}
	if tally != (capture.Tally{}) || memory.Used != 0 {
		t.Errorf("counted %v, %d bytes were not given back", tally, memory.Used)
	}
	return got
}

func lines(calls []call) (out []string) {
	for _, c := range calls {
		c.Agent, _, _ = strings.Cut(c.Agent, " grpc-go/")
		out = append(out, fmt.Sprintf("%+v", c))
	}
	slices.Sort(out)
	return out
}

// TestServerLog compares each call with the server's own log.
func TestServerLog(t *testing.T) {
	const n = 4800
	tapes, log := traffic(t, n)
	if len(log) != n {
		t.Fatalf("the server logged %d calls", len(log))
	}
	want := lines(log)
	for _, size := range []int{1 << 20, 1, 1460} {
		got := lines(read(t, tapes, size))
		if !slices.Equal(want, got) {
			for i := range min(len(want), len(got)) {
				if want[i] != got[i] {
					t.Fatalf("by %d: %d of %d; first difference:\n log  %s\n read %s", size, len(got), len(want), want[i], got[i])
				}
			}
			t.Fatalf("by %d: %d of %d", size, len(got), len(want))
		}
	}
}
