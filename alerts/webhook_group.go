package alerts

import (
	"context"
	"fmt"
	"strconv"

	"weir/pipeline"
)

// groupSchema names the form of a group in a webhook.
const groupSchema = "weir.alert_group/1"

// SendGroup posts a group that a route makes as one message, else the alert by
// itself. What is told again without news has an id of its own: a receiver that drops
// repeats would drop it.
func (h *webhook) SendGroup(ctx context.Context, g *Group) error {
	err := h.group(ctx, g)
	if err != nil {
		err = fmt.Errorf("post alert to %s: %w", h.call.host(), err)
	}
	return err
}

func (h *webhook) group(ctx context.Context, g *Group) error {
	if g.By != nil && h.template == nil {
		id := g.Key + "." + groupRevision(g)
		return h.post(ctx, id, "application/json", h.groupBody(g))
	}
	for i := range g.Alerts {
		a := g.Alerts[i].Alert
		if g.Repeat == 0 {
			if err := h.alert(ctx, a); err != nil {
				return err
			}
			continue
		}
		body, err := h.body(a)
		if err != nil {
			return err
		}
		if h.template == nil && h.write.format == FormatNative {
			body = enveloped(a, "alert.repeat")
		}
		if err := h.post(ctx, fmt.Sprintf("%s.r%d", revisionOf(a), g.Repeat), h.contentType(), body); err != nil {
			return err
		}
	}
	return nil
}

// groupRevision tells this message of a group from its others, the same on every try.
func groupRevision(g *Group) string {
	salt := []byte(strconv.Itoa(g.Repeat))
	for i := range g.Alerts {
		salt = append(append(salt, ' '), revisionOf(g.Alerts[i].Alert)...)
	}
	return fmt.Sprintf("%016x", pipeline.Hash64(string(salt)))
}

func (h *webhook) groupBody(g *Group) []byte {
	list := make([]any, len(g.Alerts))
	at := pipeline.Time(0)
	for i := range g.Alerts {
		a := g.Alerts[i].Alert
		list[i], at = h.write.value(a), max(at, changedAt(a))
	}
	data := object{
		"schema": groupSchema, "group": g.Key, "by": g.By, "count": len(list), "open": g.Open, "repeat": g.Repeat, "alerts": list,
	}
	return appendObject(nil, object{"type": "alert.group", "timestamp": stamp(at), "data": data})
}
