package v1alpha1

import "encoding/json"

// Duration is a length of time in hours, minutes and seconds, such as 24h or 1h30m. Days are not a
// unit: write 72h instead of 3d.
// ---
// It is a string with a pattern: the CRD schema of metav1.Duration accepts 3d, and the informer
// then cannot decode the list of any object.
// +kubebuilder:validation:MinLength=2
// +kubebuilder:validation:MaxLength=20
// +kubebuilder:validation:Pattern=`^([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?$`
type Duration string

// Quantity is an amount of a resource: a string such as 250m, 0.5 or 64Mi, or a whole number. Write
// a fraction as a string: "0.5".
// ---
// It is a string with a pattern: the CRD schema of resource.Quantity accepts 1e1.5, which breaks
// the list in the same way, and parsing an exponent of seven digits takes seconds.
// +kubebuilder:validation:XIntOrString
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=20
// +kubebuilder:validation:Pattern=`^[0-9]{1,12}(\.[0-9]{1,3})?(m|k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$`
// +kubebuilder:validation:XValidation:rule="type(self) != int || self >= 0 && self <= 999999999999",message="an amount without a unit must be 0 to 999999999999: write a larger one with a unit, such as 2Ti"
// +kubebuilder:validation:Type=""
type Quantity string

// UnmarshalJSON accepts a string or a number. It rejects nothing, because one unreadable amount
// would break the list of every object. Amounts are checked when they are used.
func (q *Quantity) UnmarshalJSON(raw []byte) error {
	text := ""
	if err := json.Unmarshal(raw, &text); err != nil {
		text = string(raw)
	}
	*q = Quantity(text)
	return nil
}

// LocalObjectReference names an object in the same namespace.
type LocalObjectReference struct {
	// name is the name of the object.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +required
	Name string `json:"name,omitempty"`
}

// SecretKeyReference names one key of a Secret in the same namespace. The operator never reads
// Secrets: the kubelet mounts the key into the service's pods.
type SecretKeyReference struct {
	// name is the name of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	// +required
	Name string `json:"name,omitempty"`

	// key is the key in the data of the Secret.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:Pattern=`^[-._a-zA-Z0-9]+$`
	// +required
	Key string `json:"key,omitempty"`
}

// RotationStrategy is how much a rotation renews. Each user has an owner key, which encrypts the
// user's notes and is itself encrypted (wrapped) by the master key.
// +kubebuilder:validation:Enum=Reencrypt;Rewrap
type RotationStrategy string

const (
	// StrategyReencrypt gives each user a new owner key and encrypts every note again with it.
	StrategyReencrypt RotationStrategy = "Reencrypt"
	// StrategyRewrap wraps the existing owner keys again and leaves the notes unchanged. It is
	// enough if no owner key can have leaked.
	StrategyRewrap RotationStrategy = "Rewrap"
)
