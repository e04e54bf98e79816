package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	click "github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"weir/pipeline"
)

// Batch is what one insert carries: consecutive blocks of one partition of the
// log. Who inserts a range again inserts the same blocks: then it counts once.
type Batch struct {
	Partition int
	From, To  int64 // offsets in the partition, [From, To)
	Blocks    []*pipeline.Block
}

// requestColumns are the columns of requests in the order of columns.send.
const requestColumns = "time, owner, kind, address, forwarded, method, host, path, query, operation, template, status, bytes, duration, agent, referer, " +
	"account, key, session, login_user, ja3, ja4, request_id, asn, country, flags, payloads, slot, source, source_id, line"

// Requests inserts batches. It keeps its columns from one to the next; one
// goroutine uses it.
type Requests struct {
	db *DB
	c  columns
}

// NewRequests returns an inserter.
func (db *DB) NewRequests() *Requests { return &Requests{db: db} }

// Insert stores the requests of b once, however often it is called for its range.
// template appends the template of a request's path to dst. Nothing of b is kept.
// The rows of one day are one part, stored whole or not at all; the rest of a
// failed insert is made up for when it is made again.
func (q *Requests) Insert(ctx context.Context, b Batch, template func(dst []byte, r *pipeline.Request) []byte) error {
	q.c.reset()
	for _, block := range b.Blocks {
		for i := range block.Requests {
			q.c.add(&block.Requests[i], block, template)
		}
	}
	if len(q.c.time) == 0 {
		return nil
	}
	ctx = once(ctx, fmt.Sprintf("requests/%d/%d/%d", b.Partition, b.From, b.To))
	batch, err := q.db.conn.PrepareBatch(ctx, "INSERT INTO requests ("+requestColumns+")")
	if err != nil {
		return wrap("store requests", err)
	}
	if err := q.c.send(batch); err != nil {
		return wrap("store requests", errors.Join(err, batch.Abort()))
	}
	return wrap("store requests", batch.Send())
}

// once gives an insert a token: the server passes over one that it has seen, in
// the views behind the table too.
func once(ctx context.Context, token string) context.Context {
	return click.Context(ctx, click.WithSettings(click.Settings{
		"insert_deduplicate":                                 1,
		"insert_deduplication_token":                         token,
		"deduplicate_blocks_in_dependent_materialized_views": 1,
		"async_insert":                                       0,
	}))
}

// columns are requests turned on their side.
type columns struct {
	time                                       []time.Time
	owner, slot, sourceID                      []uint64
	kind, method, host, path, query, operation []string
	template, agent, referer                   []string
	account, key, session, loginUser, ja3, ja4 []string
	requestID, country, source                 []string
	address, forwarded                         []netip.Addr
	status, flags                              []uint16
	bytes, duration, line                      []int64
	asn, payloads                              []uint32
	text                                       []byte
	templates                                  map[string]string // what is written often, once
}

func (c *columns) reset() {
	keep := *c
	*c = columns{
		time: keep.time[:0], owner: keep.owner[:0], slot: keep.slot[:0], sourceID: keep.sourceID[:0],
		kind: keep.kind[:0], method: keep.method[:0], host: keep.host[:0], path: keep.path[:0], query: keep.query[:0], operation: keep.operation[:0],
		template: keep.template[:0], agent: keep.agent[:0], referer: keep.referer[:0],
		account: keep.account[:0], key: keep.key[:0], session: keep.session[:0], loginUser: keep.loginUser[:0], ja3: keep.ja3[:0], ja4: keep.ja4[:0],
		requestID: keep.requestID[:0], country: keep.country[:0], source: keep.source[:0],
		address: keep.address[:0], forwarded: keep.forwarded[:0], status: keep.status[:0], flags: keep.flags[:0],
		bytes: keep.bytes[:0], duration: keep.duration[:0], line: keep.line[:0], asn: keep.asn[:0], payloads: keep.payloads[:0],
		text: keep.text[:0], templates: keep.templates,
	}
	if len(c.templates) > maxTemplates || c.templates == nil {
		c.templates = map[string]string{}
	}
}

// maxTemplates bounds the texts that are kept.
const maxTemplates = 4096

func (c *columns) add(r *pipeline.Request, b *pipeline.Block, template func([]byte, *pipeline.Request) []byte) {
	c.time = append(c.time, stampOf(r.Time))
	c.owner = append(c.owner, r.Owner)
	c.kind = append(c.kind, r.Kind.String())
	c.address = append(c.address, netip.AddrFrom16(r.Address))
	c.forwarded = append(c.forwarded, netip.AddrFrom16(r.Forwarded))
	c.method = append(c.method, r.Method)
	c.host = append(c.host, r.Host)
	c.path = append(c.path, r.Path)
	c.query = append(c.query, r.Query)
	c.operation = append(c.operation, r.Operation)
	c.text = template(c.text[:0], r)
	text, ok := c.templates[string(c.text)]
	if !ok {
		text = string(c.text)
		c.templates[text] = text
	}
	c.template = append(c.template, text)
	c.status = append(c.status, r.Status)
	c.bytes = append(c.bytes, r.Bytes)
	c.duration = append(c.duration, r.Duration)
	c.agent = append(c.agent, r.Agent)
	c.referer = append(c.referer, r.Referer)
	c.account = append(c.account, r.Account)
	c.key = append(c.key, r.Key)
	c.session = append(c.session, r.Session)
	c.loginUser = append(c.loginUser, r.LoginUser)
	c.ja3 = append(c.ja3, r.JA3)
	c.ja4 = append(c.ja4, r.JA4)
	c.requestID = append(c.requestID, r.RequestID)
	c.asn = append(c.asn, r.ASN)
	c.country = append(c.country, r.Country.String())
	c.flags = append(c.flags, uint16(r.Flags))
	c.payloads = append(c.payloads, uint32(r.Payloads))
	c.slot = append(c.slot, r.Slot)
	c.source = append(c.source, b.Source)
	c.sourceID = append(c.sourceID, b.SourceID)
	c.line = append(c.line, r.Line)
}

// send fills batch, in the order of requestColumns.
func (c *columns) send(batch driver.Batch) error {
	for i, column := range []any{
		c.time, c.owner, c.kind, c.address, c.forwarded, c.method, c.host, c.path, c.query, c.operation, c.template, c.status, c.bytes, c.duration, c.agent, c.referer,
		c.account, c.key, c.session, c.loginUser, c.ja3, c.ja4, c.requestID, c.asn, c.country, c.flags, c.payloads, c.slot, c.source, c.sourceID, c.line,
	} {
		if err := batch.Column(i).Append(column); err != nil {
			return err
		}
	}
	return nil
}
