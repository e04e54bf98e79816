package kafka

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	kafka "github.com/segmentio/kafka-go"
	"go.uber.org/zap"
)

const (
	// DefaultSession is Bus.Session where that is 0.
	DefaultSession = 10 * time.Second
	rejoinTimeout  = 15 * time.Second
)

// Deal is what a member of a group gets.
type Deal struct {
	Owned []int // slices, ascending
	// Follows says that this deal is the one behind the last one that this member
	// took part in: a slice that it has again, nobody had in between.
	Follows bool
}

// RunGroup shares the partitions of topic, as the numbers of slices, with the
// other members of a group until ctx ends or own fails. own has its slices until
// its context ends; it then lets go of those and returns, within the session's length:
// nobody else gets them before. It is called for each deal, one at a time, also
// with no slices. Members keep the slices that they have as far as an even deal
// allows.
func (b *Bus) RunGroup(ctx context.Context, group, topic string, own func(ctx context.Context, deal Deal) error) error {
	d, err := b.dialer()
	if err != nil {
		return err
	}
	sticky := &stickyBalancer{}
	members, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: group, Brokers: b.Brokers, Dialer: d, Topics: []string{topic}, GroupBalancers: []kafka.GroupBalancer{sticky},
		SessionTimeout: b.SessionTimeout(), RebalanceTimeout: rejoinTimeout, HeartbeatInterval: b.SessionTimeout() / 5, JoinGroupBackoff: retryEvery,
	})
	if err != nil {
		return fmt.Errorf("join group %s: %w", group, err)
	}
	defer members.Close()
	owned := b.metrics.owned.WithLabelValues(group)
	defer owned.Set(0)
	failing := false
	last := int32(-1)
	for {
		gen, err := members.Next(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was asked to end
		}
		if err != nil {
			if !failing {
				failing = true
				b.log.Warn("cannot join the group, and tries on", zap.String("group", group), zap.Error(err))
			}
			if !wait(ctx, retryEvery) {
				return nil
			}
			continue
		}
		failing = false
		var list []int
		for _, a := range gen.Assignments[topic] {
			list = append(list, a.ID)
		}
		slices.Sort(list)
		sticky.keep(list)
		b.metrics.rebalances.WithLabelValues(group).Inc()
		if all, err := b.Partitions(ctx, topic); err == nil { // else at the next deal
			b.metrics.dealt.WithLabelValues(group).Set(float64(len(all)))
		}
		owned.Set(float64(len(list)))
		b.log.Info("slices are dealt", zap.String("group", group), zap.Int32("generation", gen.ID), zap.Ints("slices", list))
		deal := Deal{Owned: list, Follows: gen.ID == last+1 && last >= 0}
		last = gen.ID
		done := make(chan error, 1)
		gen.Start(func(over context.Context) {
			over, cancel := join(ctx, over)
			defer cancel()
			done <- own(over, deal)
		})
		if err := <-done; err != nil {
			return err
		}
	}
}

// SessionTimeout is how long a member that is silent keeps its slices, and how long
// one may take to let go of them.
func (b *Bus) SessionTimeout() time.Duration { return cmp.Or(b.Session, DefaultSession) }

// stickyBalancer deals partitions evenly and moves as few as it can: members
// tell what they have.
type stickyBalancer struct {
	mu    sync.Mutex
	owned []int
}

func (s *stickyBalancer) keep(list []int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.owned = list
}

// ProtocolName implements kafka.GroupBalancer.
func (*stickyBalancer) ProtocolName() string { return "weir-sticky" }

// UserData implements kafka.GroupBalancer.
func (s *stickyBalancer) UserData() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(s.owned)
}

// AssignGroups implements kafka.GroupBalancer. Members and partitions come in any
// order; the deal follows from what they are.
func (*stickyBalancer) AssignGroups(members []kafka.GroupMember, partitions []kafka.Partition) kafka.GroupMemberAssignments {
	out := kafka.GroupMemberAssignments{}
	byTopic := map[string][]int{}
	for _, p := range partitions {
		byTopic[p.Topic] = append(byTopic[p.Topic], p.ID)
	}
	for topic, ids := range byTopic {
		slices.Sort(ids)
		for id, list := range dealSticky(members, ids) {
			if out[id] == nil {
				out[id] = map[string][]int{}
			}
			out[id][topic] = list
		}
	}
	return out
}

// dealSticky deals ids, which are sorted, to the members.
func dealSticky(members []kafka.GroupMember, ids []int) map[string][]int {
	type hand struct {
		id   string
		had  []int
		deal []int
	}
	free := map[int]bool{}
	for _, id := range ids {
		free[id] = true
	}
	sorted := slices.SortedFunc(slices.Values(members), func(x, y kafka.GroupMember) int { return cmp.Compare(x.ID, y.ID) })
	var hands []*hand
	for _, m := range sorted {
		h := &hand{id: m.ID}
		var had []int
		if json.Unmarshal(m.UserData, &had) == nil {
			slices.Sort(had)
			for _, id := range had {
				if free[id] { // two that say they have it: the first does
					delete(free, id)
					h.had = append(h.had, id)
				}
			}
		}
		hands = append(hands, h)
	}
	if len(hands) == 0 {
		return nil
	}
	// Those who have most keep the odd ones.
	slices.SortStableFunc(hands, func(x, y *hand) int { return cmp.Compare(len(y.had), len(x.had)) })
	each, odd := len(ids)/len(hands), len(ids)%len(hands)
	quota := func(i int) int {
		if i < odd {
			return each + 1
		}
		return each
	}
	for i, h := range hands {
		n := min(len(h.had), quota(i))
		h.deal = h.had[:n:n]
		for _, id := range h.had[n:] {
			free[id] = true
		}
	}
	i := 0
	for _, id := range ids {
		if !free[id] {
			continue
		}
		for len(hands[i].deal) >= quota(i) {
			i++
		}
		hands[i].deal = append(hands[i].deal, id)
	}
	out := map[string][]int{}
	for _, h := range hands {
		slices.Sort(h.deal)
		out[h.id] = h.deal
	}
	return out
}
