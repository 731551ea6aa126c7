package securenotes

import (
	"context"
	"fmt"

	certmanagerv1 "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	cmmeta "github.com/cert-manager/cert-manager/pkg/apis/meta/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/securenotes/securenotes/api/v1alpha1"
	"github.com/securenotes/securenotes/controllers/internal/jitter"
	"github.com/securenotes/securenotes/controllers/internal/operand"
)

// certificate has cert-manager issue the certificate, or leaves that to whoever keeps the Secret.
func (r *Reconciler) certificate(ctx context.Context, s *scope) error {
	installed, err := r.certManagerInstalled()
	if err != nil {
		return err
	}
	desired := operand.Certificate(s.sn)
	switch {
	case desired == nil && installed:
		return r.remove(ctx, s, operand.CertificateName(s.sn.Name), &certmanagerv1.Certificate{})
	case desired == nil:
		return nil
	case !installed:
		s.certificateFinding = bad(v1alpha1.ReasonCertManagerMissing,
			"spec.tls.certManager needs cert-manager, which is not installed: install it, or use spec.tls.secretRef")
		s.wake(jitter.Longer(retryInterval))
		return nil
	}
	if err := r.WatchCertManager(ctx); err != nil {
		return fmt.Errorf("watch cert-manager: %w", err)
	}
	existing := &certmanagerv1.Certificate{}
	if err := r.apply(ctx, s, desired, existing); err != nil {
		return err
	}
	s.notAfter = existing.Status.NotAfter
	ready := certificateCondition(existing)
	if ready != nil && ready.Status == cmmeta.ConditionTrue {
		s.certificateFinding = good(v1alpha1.ReasonReady, "the certificate is issued")
		return nil
	}
	if s.certificateFinding, err = r.issuer(ctx, s.sn); err != nil || s.certificateFinding.known() {
		s.wake(jitter.Longer(retryInterval))
		return err
	}
	message := "cert-manager is issuing the certificate"
	if ready != nil && ready.Message != "" {
		message += ": " + shorten(ready.Message)
	}
	s.certificateFinding = bad(v1alpha1.ReasonIssuing, message)
	return nil
}

func (r *Reconciler) certManagerInstalled() (bool, error) {
	_, err := r.Client.RESTMapper().RESTMapping(certmanagerv1.SchemeGroupVersion.WithKind(certmanagerv1.CertificateKind).GroupKind(), certmanagerv1.SchemeGroupVersion.Version)
	if meta.IsNoMatchError(err) {
		return false, nil
	}
	return err == nil, err
}

// issuer says what is wrong with the issuer, nothing when it is ready.
func (r *Reconciler) issuer(ctx context.Context, sn *v1alpha1.SecureNotes) (finding, error) {
	name, kind := sn.Spec.TLS.CertManager.IssuerRef.Name, operand.IssuerKind(sn)
	var issuer certmanagerv1.GenericIssuer = &certmanagerv1.Issuer{}
	key := client.ObjectKey{Namespace: sn.Namespace, Name: name}
	if kind == certmanagerv1.ClusterIssuerKind {
		issuer, key.Namespace = &certmanagerv1.ClusterIssuer{}, ""
	}
	err := r.Client.Get(ctx, key, issuer)
	if apierrors.IsNotFound(err) {
		where := ""
		if kind == certmanagerv1.IssuerKind {
			where = " in namespace " + sn.Namespace
		}
		return bad(v1alpha1.ReasonIssuerNotFound, fmt.Sprintf("%s %s does not exist%s: create it, or change spec.tls.certManager.issuerRef", kind, name, where)), nil
	}
	if err != nil {
		return finding{}, err
	}
	for _, condition := range issuer.GetStatus().Conditions {
		if condition.Type == certmanagerv1.IssuerConditionReady && condition.Status == cmmeta.ConditionTrue {
			return finding{}, nil
		}
	}
	return bad(v1alpha1.ReasonIssuerNotReady, fmt.Sprintf("%s %s is not ready: see its own status", kind, name)), nil
}

func certificateCondition(certificate *certmanagerv1.Certificate) *certmanagerv1.CertificateCondition {
	for i := range certificate.Status.Conditions {
		if certificate.Status.Conditions[i].Type == certmanagerv1.CertificateConditionReady {
			return &certificate.Status.Conditions[i]
		}
	}
	return nil
}
