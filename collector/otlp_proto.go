package collector

import (
	"errors"
	"math"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// The protobuf encoding, read by its numbers (opentelemetry-proto 1.x): only
// what a request needs, and the rest passed over.
//
//	Export*ServiceRequest  1 resource_*    ->  2 scope_*  ->  2 span | log_record
//	Span       1 trace_id  6 kind  7 start  8 end  9 attributes
//	LogRecord  1 time  5 body  6 attributes  9 trace_id  11 observed_time
//	KeyValue   1 key  2 value
//	AnyValue   1 string  2 bool  3 int  4 double  5 array{1 values}  6 kvlist{1 values}  7 bytes

var errOTLP = errors.New("not what OTLP sends")

// otlpField is one field of a message: a number or bytes.
type otlpField struct {
	num protowire.Number
	v   uint64
	p   []byte
}

// eachOTLPField calls f for the fields of a message.
func eachOTLPField(b []byte, f func(otlpField) error) error {
	for len(b) > 0 {
		num, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errOTLP
		}
		b = b[n:]
		field := otlpField{num: num}
		switch kind {
		case protowire.VarintType:
			field.v, n = protowire.ConsumeVarint(b)
		case protowire.Fixed64Type:
			field.v, n = protowire.ConsumeFixed64(b)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(b)
			field.v = uint64(v)
		case protowire.BytesType:
			field.p, n = protowire.ConsumeBytes(b)
		default:
			return errOTLP
		}
		if n < 0 {
			return errOTLP
		}
		b = b[n:]
		if err := f(field); err != nil {
			return err
		}
	}
	return nil
}

// readProto reads an export.
func (l *otlpLines) readProto(b []byte, kind string) error {
	record := l.protoLog
	if kind == otlpTraces {
		record = l.protoSpan
	}
	return eachOTLPField(b, func(resource otlpField) error {
		if resource.num != 1 {
			return nil
		}
		return eachOTLPField(resource.p, func(scope otlpField) error {
			if scope.num != 2 {
				return nil
			}
			return eachOTLPField(scope.p, func(f otlpField) error {
				if f.num != 2 {
					return nil
				}
				return record(f.p)
			})
		})
	})
}

func (l *otlpLines) protoSpan(b []byte) error {
	var kind, start, end uint64
	var id [32]byte
	var trace []byte
	l.begin()
	err := eachOTLPField(b, func(f otlpField) error {
		switch f.num {
		case 1:
			trace = traceHex(id[:0], f.p)
		case 6:
			kind = f.v
		case 7:
			start = f.v
		case 8:
			end = f.v
		case 9:
			return l.protoAttribute(f.p)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return l.endSpan(kind, start, end, trace)
}

func (l *otlpLines) protoLog(b []byte) error {
	var at, observed uint64
	var id [32]byte
	var trace, body []byte
	l.begin()
	err := eachOTLPField(b, func(f otlpField) error {
		switch f.num {
		case 1:
			at = f.v
		case 5:
			body = f.p
		case 6:
			return l.protoAttribute(f.p)
		case 9:
			trace = traceHex(id[:0], f.p)
		case 11:
			observed = f.v
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case l.http:
		return l.endLog(at, observed, trace)
	}
	l.undo()
	from := len(l.text)
	err = eachOTLPField(body, func(f otlpField) (err error) {
		switch f.num {
		case 1:
			l.text = append(l.text[:from], f.p...)
		case 6:
			l.text, err = appendProtoMap(l.text[:from], f.p, 0)
		}
		return err
	})
	if err != nil {
		return err
	}
	return l.endText(from)
}

// protoPair splits a KeyValue.
func protoPair(b []byte) (key, value []byte, err error) {
	err = eachOTLPField(b, func(f otlpField) error {
		switch f.num {
		case 1:
			key = f.p
		case 2:
			value = f.p
		}
		return nil
	})
	return key, value, err
}

func (l *otlpLines) protoAttribute(b []byte) error {
	key, value, err := protoPair(b)
	if err != nil || !l.name(key) {
		return err
	}
	l.requests, err = appendProtoValue(l.requests, value, maxOTLPDepth)
	return err
}

// appendProtoValue appends an AnyValue as JSON. An array is its strings, as
// headers are written; an object at maxOTLPDepth is null.
func appendProtoValue(dst, b []byte, depth int) ([]byte, error) {
	from := len(dst)
	err := eachOTLPField(b, func(f otlpField) (err error) {
		dst = dst[:from]
		switch f.num {
		case 1:
			dst = appendJSONText(dst, f.p)
		case 2:
			dst = strconv.AppendBool(dst, f.v != 0)
		case 3:
			dst = strconv.AppendInt(dst, int64(f.v), 10)
		case 4:
			dst = appendJSONDouble(dst, math.Float64frombits(f.v))
		case 5:
			var joined []byte
			err = eachOTLPField(f.p, func(item otlpField) error {
				return eachOTLPField(item.p, func(v otlpField) error {
					if item.num == 1 && v.num == 1 {
						joined = appendJoined(joined, v.p)
					}
					return nil
				})
			})
			dst = appendJSONText(dst, joined)
		case 6:
			if depth < maxOTLPDepth {
				dst, err = appendProtoMap(dst, f.p, depth+1)
			}
		case 7:
			dst = appendJSONBytes(dst, f.p)
		}
		return err
	})
	if len(dst) == from {
		dst = append(dst, "null"...)
	}
	return dst, err
}

func appendJoined(dst, v []byte) []byte {
	if len(dst) > 0 {
		dst = append(dst, ", "...)
	}
	return append(dst, v...)
}

// appendProtoMap appends a KeyValueList as a JSON object.
func appendProtoMap(dst, b []byte, depth int) ([]byte, error) {
	dst = append(dst, '{')
	from := len(dst)
	err := eachOTLPField(b, func(f otlpField) error {
		if f.num != 1 {
			return nil
		}
		key, value, err := protoPair(f.p)
		if err != nil {
			return err
		}
		if len(dst) > from {
			dst = append(dst, ',')
		}
		dst, err = appendProtoValue(append(appendJSONText(dst, key), ':'), value, depth)
		return err
	})
	return append(dst, '}'), err
}
