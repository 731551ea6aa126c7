package vaultadmin

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/hashicorp/vault/api"
)

// Apply writes mounts, policies and roles with the administrator's client, and prints each step to
// out. With dryRun, it changes nothing and prints what it would write. It can be repeated: it
// writes only differences, and keeps the rights of an earlier run.
//
// Before the first write, it returns an error for a mount of another type; for a role, a policy or
// an auth mount that is not known to belong to this cluster; for other settings than those of an
// earlier run; and for a change that would delete Vault's token reviewer JWT. Other errors: those
// of Vault, with the path.
func (s Setup) Apply(ctx context.Context, client *api.Client, out io.Writer, dryRun bool) error {
	run := &setupRun{Setup: s, client: client, out: out, dryRun: dryRun}
	found, err := run.examine(ctx)
	if err != nil {
		return err
	}
	accessor, err := run.authMount(ctx, found.auth)
	if err != nil {
		return err
	}
	if err := run.secretMounts(ctx, found); err != nil {
		return err
	}
	if err := run.authConfiguration(ctx, found.configuration); err != nil {
		return err
	}
	run.keepRights(found.operatorRules)
	for _, policy := range run.Policies(accessor) {
		if err := run.policy(ctx, policy, found.policies[policy.Name]); err != nil {
			return err
		}
	}
	for _, role := range s.Roles() {
		if err := run.role(ctx, role); err != nil {
			return err
		}
	}
	if dryRun {
		run.say("Dry run: nothing was changed.")
	} else {
		run.say("Done: the operator of cluster %s can manage its keys.", s.ClusterID)
	}
	return nil
}

type setupRun struct {
	Setup
	client *api.Client
	out    io.Writer
	dryRun bool
}

func (r *setupRun) say(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

// step runs do and prints its description, unless this is a dry run.
func (r *setupRun) step(description string, do func() error) error {
	if r.dryRun {
		r.say("would %s", description)
		return nil
	}
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", description, err)
	}
	r.say("%s: done", description)
	return nil
}

// authMount enables the auth method unless it exists, and returns its accessor.
func (r *setupRun) authMount(ctx context.Context, existing *api.AuthMount) (accessor string, err error) {
	if existing != nil {
		r.say("auth method kubernetes at %s: exists", r.AuthMount)
		return existing.Accessor, nil
	}
	err = r.step("enable auth method kubernetes at "+r.AuthMount, func() error {
		return r.client.Sys().EnableAuthWithOptionsWithContext(ctx, r.AuthMount, &api.EnableAuthOptions{Type: "kubernetes"})
	})
	if err != nil {
		return "", err
	}
	if r.dryRun {
		return "ACCESSOR", nil
	}
	mounts, err := r.client.Sys().ListAuthWithContext(ctx)
	if err != nil {
		return "", fmt.Errorf("list auth methods: %w", err)
	}
	mount, ok := mounts[r.AuthMount+"/"]
	if !ok {
		return "", fmt.Errorf("auth mount %s is missing right after it was enabled", r.AuthMount)
	}
	return mount.Accessor, nil
}

func (r *setupRun) secretMounts(ctx context.Context, found *vaultState) error {
	for _, engine := range []struct {
		is    string
		at    string
		there bool
		mount api.MountInput
	}{
		{"transit", r.TransitMount, found.transit, api.MountInput{Type: "transit"}},
		{"kv, version 2,", r.KVMount, found.kv, api.MountInput{Type: "kv", Options: map[string]string{"version": "2"}}},
	} {
		if engine.there {
			r.say("secrets engine %s at %s: exists", engine.is, engine.at)
			continue
		}
		err := r.step("enable secrets engine "+engine.is+" at "+engine.at, func() error {
			return r.client.Sys().MountWithContext(ctx, engine.at, &engine.mount)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *setupRun) policy(ctx context.Context, policy Policy, existing string) error {
	if existing == policy.Rules {
		r.say("policy %s: as it should be", policy.Name)
		return nil
	}
	if r.dryRun {
		r.say("would write policy %s:\n%s", policy.Name, indent(policy.Rules))
		return nil
	}
	return r.step("write policy "+policy.Name, func() error {
		return r.client.Sys().PutPolicyWithContext(ctx, policy.Name, policy.Rules)
	})
}

func (r *setupRun) role(ctx context.Context, role Role) error {
	path := "auth/" + r.AuthMount + "/role/" + role.Name
	same, err := r.same(ctx, path, role.Parameters)
	if err != nil {
		return err
	}
	if same {
		r.say("role %s: as it should be", role.Name)
		return nil
	}
	if r.dryRun {
		raw, err := json.MarshalIndent(role.Parameters, "  ", "  ")
		if err != nil {
			return fmt.Errorf("role %s: %w", role.Name, err)
		}
		r.say("would write role %s:\n  %s", role.Name, raw)
		return nil
	}
	return r.step("write role "+role.Name, func() error {
		_, err := r.client.Logical().WriteWithContext(ctx, path, role.Parameters)
		return err
	})
}

// same compares only the fields that vault-setup sets.
func (r *setupRun) same(ctx context.Context, path string, want map[string]any) (bool, error) {
	secret, err := r.client.Logical().ReadWithContext(ctx, path)
	if isStatus(err, http.StatusNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read %s: %w", path, err)
	}
	if secret == nil {
		return false, nil
	}
	for field, value := range want {
		if !reflect.DeepEqual(normal(value), normal(secret.Data[field])) {
			return false, nil
		}
	}
	return true, nil
}

// normal returns a form in which written and returned values are equal. Vault returns durations in
// seconds.
func normal(value any) any {
	if text, ok := value.(string); ok {
		if d, err := time.ParseDuration(text); err == nil {
			return fmt.Sprint(int64(d.Seconds()))
		}
		return strings.TrimSpace(text)
	}
	raw, err := json.Marshal(value)
	if err != nil {
		return value
	}
	return string(raw)
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ")
}
