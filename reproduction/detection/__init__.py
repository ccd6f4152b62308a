"""Detection of objects on source and fused images, and what fusing gives to a detector.

`detector`: pictures to boxes. `layout`: data sets that detectors are trained on.
`average_precision`: how good boxes are. `augmentation`, `loss`, `training`: fine-tuning.
`experiment`, `report`: Table 4.
"""
