"""From which size on images count as photographs."""

#: Pixels a side. Inversion reaches smaller images, such as digits of 8x8, nearly as good as real
#: ones; what suits them does not suit photographs (docs/lab).
SMALLEST_PHOTOGRAPH = 16
