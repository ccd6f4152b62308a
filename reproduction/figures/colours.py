"""Okabe and Ito's colours, told apart by the colour-blind."""

BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#999999"
