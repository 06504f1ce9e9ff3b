"""An add-on."""

NAME = "an add-on"
