// Package firewall records a machine's packet filter before Docker changes it, and afterwards
// removes only what Docker added. It never flushes the filter.
package firewall

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/securenotes/securenotes/hack/kind/proc"
)

// Snapshot is the state of the packet filter and the forwarding switches at one moment.
type Snapshot struct {
	Saved     map[string]string `json:"saved"` // by program: iptables, ip6tables
	NftTables []string          `json:"nftTables"`
	Sysctls   map[string]string `json:"sysctls"` // by path below /proc/sys
}

// families are the filters that Docker changes, each with its name in nft.
var families = map[string]string{"iptables": "ip", "ip6tables": "ip6"}

// switches are the kernel settings that Docker turns on.
var switches = []string{"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/default/forwarding"}

// Take returns the current state.
func Take(ctx context.Context) (Snapshot, error) {
	s := Snapshot{Saved: map[string]string{}, Sysctls: map[string]string{}}
	for program := range families {
		out, err := proc.New(program + "-save").Output(ctx)
		if err != nil {
			return s, fmt.Errorf("read the packet filter: %w", err)
		}
		s.Saved[program] = out
	}
	for _, k := range switches {
		if b, err := os.ReadFile("/proc/sys/" + k); err == nil {
			s.Sysctls[k] = strings.TrimSpace(string(b))
		}
	}
	var err error
	s.NftTables, err = nftTables(ctx)
	return s, err
}

// Marks are words that identify the rules that Docker has added for us.
type Marks []string

// Restore removes the rules and chains that have one of the marks and are not in the snapshot. Then
// it removes empty chains and tables, and restores policies and switches.
func (s Snapshot) Restore(ctx context.Context, marks Marks) error {
	for program, family := range families {
		now, err := proc.New(program + "-save").Output(ctx)
		if err != nil {
			return err
		}
		for _, c := range undo(parse(s.Saved[program]), parse(now), marks) {
			if err := proc.New(program, append([]string{"-w", "10"}, c...)...).Run(ctx); err != nil {
				return fmt.Errorf("remove a packet filter rule: %w", err)
			}
		}
		if err := s.dropEmptyTables(ctx, family); err != nil {
			return err
		}
	}
	for k, v := range s.Sysctls {
		if b, err := os.ReadFile("/proc/sys/" + k); err == nil && strings.TrimSpace(string(b)) != v {
			if err := os.WriteFile("/proc/sys/"+k, []byte(v), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropEmptyTables removes nft tables that iptables created for Docker's rules and that are now
// empty.
func (s Snapshot) dropEmptyTables(ctx context.Context, family string) error {
	now, err := nftTables(ctx)
	if err != nil {
		return err
	}
	for _, t := range now {
		name, ok := strings.CutPrefix(t, family+" ")
		if !ok || slices.Contains(s.NftTables, t) || !slices.Contains([]string{"filter", "nat", "mangle", "raw", "security"}, name) {
			continue
		}
		out, err := proc.New("nft", "-j", "list", "table", family, name).Output(ctx)
		if err != nil {
			return err
		}
		if strings.Contains(out, `"rule":`) {
			continue
		}
		if err := proc.New("nft", "delete", "table", family, name).Run(ctx); err != nil {
			return err
		}
	}
	return nil
}

// nftTables returns "family name" pairs. It returns none if nft is not installed, because then
// there are no tables to remove.
func nftTables(ctx context.Context) ([]string, error) {
	out, err := proc.New("nft", "-j", "list", "tables").Output(ctx)
	if err != nil {
		return nil, err
	}
	var list struct {
		Nftables []struct {
			Table *struct{ Family, Name string }
		}
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		return nil, fmt.Errorf("nft -j list tables: %w", err)
	}
	var tables []string
	for _, e := range list.Nftables {
		if e.Table != nil {
			tables = append(tables, e.Table.Family+" "+e.Table.Name)
		}
	}
	return tables, nil
}
