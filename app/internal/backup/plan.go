package backup

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/securenotes/securenotes/app/config"
	"github.com/securenotes/securenotes/app/internal/backup/archive"
	"github.com/securenotes/securenotes/app/internal/deployment"
	"github.com/securenotes/securenotes/app/internal/envelope"
	"github.com/securenotes/securenotes/app/internal/store"
)

// plan is what a restore writes, after everything has been verified.
type plan struct {
	manifest *archive.Manifest
	rekeyed  bool
	// keys are the archive's deployment's under the target's master key.
	keys *envelope.Keyring
	// meta is what the database records at the end.
	meta  store.Meta
	fence int
	// damaged is what the archive has of damage, if the escrow's keys opened every value.
	damaged Damaged
	// pepperEntry and newPepper are from an escrow.
	pepperEntry string
	newPepper   *config.Pepper
}

// belongsTo returns the SecureNotes that the target becomes part of, as namespace/name.
func (r *Restore) belongsTo() string { return r.Deployment.Namespace + "/" + r.Deployment.Name }

// newPlan returns what the archive says by itself.
func (r *Restore) newPlan(m *archive.Manifest, found *examination) (*plan, error) {
	canary := found.Contents.Canary
	if canary == nil {
		return nil, refuse(archive.ErrDamaged, "backup "+m.ID, "it has no canary", "use another backup")
	}
	p := &plan{manifest: m, rekeyed: found.rekeyed, damaged: found.damaged, keys: envelope.NewKeyring(m.Deployment.ID, r.Provider)}
	p.meta = store.Meta{
		DeploymentID: m.Deployment.ID, BelongsTo: r.belongsTo(),
		Canary: envelope.StoredKey{Owner: deployment.CanaryOwner, ID: canary.ID, Wrapped: envelope.Wrapped(canary.Wrapped)}, Sealed: canary.Sealed,
	}
	return p, nil
}

// plan checks what the backup needs of Vault, and writes nothing.
func (r *Restore) plan(ctx context.Context, m *archive.Manifest, found *examination) (*plan, error) {
	p, err := r.newPlan(m, found)
	if err != nil {
		return nil, err
	}
	if r.FromEscrow {
		err = r.planFromEscrow(ctx, p, found)
	} else {
		err = r.planFromVault(ctx, p, found)
	}
	return p, err
}

// planFromVault checks that Vault unwraps a key of each version, and has the peppers.
func (r *Restore) planFromVault(ctx context.Context, p *plan, found *examination) error {
	if err := found.addKey(p.meta.Canary); err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	if err := r.checkVersions(ctx, p, found.census); err != nil {
		return err
	}
	if err := deployment.OpenCanary(ctx, p.keys, p.meta); err != nil {
		return err
	}
	pepper, err := r.Peppers.Pepper(ctx)
	if err != nil {
		return err
	}
	values, err := pepper.Values()
	if err != nil {
		return err
	}
	if err := found.checkPeppers(p.manifest, values, "restore the pepper from a backup of Vault, or restore from the escrow with --escrow-identity"); err != nil {
		return err
	}
	if p.meta.PepperDigest, err = pepper.Digest(); err != nil {
		return err
	}
	// What is wrapped now shows the latest version, without the right to read the key's settings.
	probe, err := p.keys.Generate(ctx, deployment.CanaryOwner)
	if err != nil {
		return err
	}
	p.fence, err = probe.Wrapped.Version()
	return err
}

// checkVersions refuses a backup that has keys under versions that Vault does not decrypt with. A
// damaged key beside one that it unwraps is left to the verification at the end. So are all keys of
// a version, if damage is accepted and it is not the canary's: a rotation leaves the damaged ones
// under their old version.
func (r *Restore) checkVersions(ctx context.Context, p *plan, c *census) error {
	canary, err := p.meta.Canary.Wrapped.Version()
	if err != nil {
		return fmt.Errorf("canary: %w", err)
	}
	var refused []string
	var why error
	least := 0
	ofCanary := false
	for _, version := range c.versions() {
		results, err := p.keys.UnwrapAll(ctx, c.keys[version])
		if err != nil {
			return err
		}
		opened := false
		for _, result := range results {
			switch {
			case result.Err == nil:
				opened = true
			case !errors.Is(result.Err, envelope.ErrRefused):
				return result.Err
			default:
				err = result.Err
			}
		}
		if opened {
			continue
		}
		if refused = append(refused, fmt.Sprint(version)); least == 0 {
			least, why = version, err
		}
		ofCanary = ofCanary || version == canary
	}
	if len(refused) == 0 || r.AcceptDamaged && !ofCanary {
		return nil
	}
	next := fmt.Sprintf("if they were retired, allow them again with `vault write transit/keys/%s/config min_decryption_version=%d`; "+
		"if they were destroyed, or the key is another one, restore from the escrow with --escrow-identity", r.MasterKey, least)
	if !ofCanary {
		next += "; if the keys are damaged, accept with --accept-damaged that they stay unreadable"
	}
	return &archive.Refusal{
		Reason: ErrVersionsRefused, Object: "backup " + p.manifest.ID, Err: why, Next: next,
		Cause: fmt.Sprintf("the master key %s does not unwrap its keys of the versions %s", r.MasterKey, strings.Join(refused, ", ")),
	}
}

// pepper returns the peppers of the escrow.
func (found *examination) pepper() *config.Pepper {
	pepper := &config.Pepper{CurrentID: found.CurrentPepper, Peppers: map[string]string{}}
	for _, row := range found.Peppers {
		pepper.Peppers[row.ID] = base64.StdEncoding.EncodeToString(row.Value)
	}
	return pepper
}

// checkPeppers refuses a backup with passwords that nobody could verify.
func (found *examination) checkPeppers(m *archive.Manifest, values map[string][]byte, next string) error {
	for _, id := range found.pepperIDs() {
		if values[id] == nil {
			return refuse(ErrPepperMissing, "backup "+m.ID, fmt.Sprintf("%d passwords need the pepper %s, which is not there", found.peppers[id], id), next)
		}
	}
	return nil
}

// planFromEscrow opens the canary with the escrow's key, wraps that key under the target's master
// key, and prepares the new pepper.
func (r *Restore) planFromEscrow(ctx context.Context, p *plan, found *examination) error {
	defer clearSecrets(found.Report)
	raw := envelope.RawKey{Owner: deployment.CanaryOwner, ID: p.meta.Canary.ID, Raw: found.CanaryKey}
	key, err := p.keys.Open(raw)
	if err == nil {
		err = deployment.OpenCanaryWith(key, p.meta.Sealed)
	}
	if err != nil {
		return &archive.Refusal{Reason: archive.ErrDamaged, Object: "backup " + p.manifest.ID, Err: err, Cause: "the escrow does not open the archive's canary", Next: "use another backup"}
	}
	pepper := found.pepper()
	values, err := pepper.Values()
	if err != nil {
		return err
	}
	if err := found.checkPeppers(p.manifest, values, "use another backup: this escrow is not complete"); err != nil {
		return err
	}
	if p.meta.PepperDigest, err = pepper.Digest(); err != nil {
		return err
	}
	p.newPepper, p.pepperEntry = pepper, config.NewPepperEntry()
	// Wrapping stores nothing in Vault.
	wrapped, err := p.keys.Import(ctx, []envelope.RawKey{raw})
	if err != nil {
		return err
	}
	p.meta.Canary = wrapped[0]
	// The database is verified at the end with the right to unwrap, which may be missing.
	if err := deployment.OpenCanary(ctx, p.keys, p.meta); err != nil {
		return err
	}
	p.fence, err = p.meta.Canary.Wrapped.Version()
	return err
}
