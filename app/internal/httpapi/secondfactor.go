package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/accounts"
)

func (h *handlers) secondFactorStatus(c *gin.Context) error {
	status, err := h.Accounts.SecondFactorStatus(c.Request.Context(), identity(c))
	if err != nil {
		return err
	}
	c.JSON(http.StatusOK, gin.H{"enabled": status.Enabled, "recovery_codes_left": status.RecoveryCodes})
	return nil
}

func (h *handlers) proposeSecondFactor(c *gin.Context) error {
	var body struct {
		Password string `json:"password"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	proposed, err := h.Accounts.ProposeSecondFactor(c.Request.Context(), identity(c), c.ClientIP(), body.Password)
	if err != nil {
		return reauthenticationError(err)
	}
	c.JSON(http.StatusCreated, gin.H{"secret": proposed.Secret, "uri": proposed.URI})
	return nil
}

func (h *handlers) confirmSecondFactor(c *gin.Context) error {
	var body struct {
		Code string `json:"code"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	codes, err := h.Accounts.ConfirmSecondFactor(c.Request.Context(), identity(c), c.ClientIP(), body.Code)
	if err != nil {
		return reauthenticationError(err)
	}
	c.JSON(http.StatusOK, gin.H{"recovery_codes": codes})
	return nil
}

func (h *handlers) removeSecondFactor(c *gin.Context) error {
	var body reauthentication
	if err := decode(c, &body); err != nil {
		return err
	}
	if err := h.Accounts.RemoveSecondFactor(c.Request.Context(), identity(c), c.ClientIP(), accounts.Reauthentication(body)); err != nil {
		return reauthenticationError(err)
	}
	c.JSON(http.StatusOK, gin.H{"message": "Second factor removed"})
	return nil
}
